from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from quota.ports import CheckpointStore
from quota.testing import MemoryStore
from quota.testing.store_contract import CheckpointStoreContract, Files
from quota_local import LocalStore, open_store


class TestMemoryStore(CheckpointStoreContract):
    @pytest.fixture
    def store_root_uri(self) -> str:
        return "memory://store/"

    @pytest.fixture
    def store(self, store_root_uri: str) -> MemoryStore:
        return MemoryStore(store_root_uri)

    def write_checkpoint(self, store: CheckpointStore, uri: str, files: Files) -> None:
        assert isinstance(store, MemoryStore)
        store.add_checkpoint(uri, files)

    def read_checkpoint(self, store: CheckpointStore, uri: str) -> dict[str, bytes] | None:
        assert isinstance(store, MemoryStore)
        return store.contents(uri)

    def test_shows_what_its_trash_holds(self, store: MemoryStore, uri: str) -> None:
        content = store.contents(uri)
        assert store.trash_contents("claim") is None
        store.trash(uri, "claim", store.manifest(uri))
        assert store.trash_contents("claim") == content


class TestLocalStore(CheckpointStoreContract):
    @pytest.fixture
    def store_root_uri(self, tmp_path: Path) -> str:
        (tmp_path / "root").mkdir()
        return f"file://{tmp_path}/root"

    @pytest.fixture
    def store(self, store_root_uri: str) -> LocalStore:
        return open_store(store_root_uri)

    def write_checkpoint(self, store: CheckpointStore, uri: str, files: Files) -> None:
        assert isinstance(store, LocalStore)
        # The new one is complete before the old one goes, so no inode is used again at once.
        target = _path(uri)
        fresh = target.with_name(f"{target.name}.new")
        for name, content in files.items():
            file = fresh / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)

    def read_checkpoint(self, store: CheckpointStore, uri: str) -> dict[str, bytes] | None:
        assert isinstance(store, LocalStore)
        target = _path(uri)
        if not os.path.lexists(target):
            return None
        return {str(file.relative_to(target)): file.read_bytes() for file in target.rglob("*") if file.is_file()}


def _path(uri: str) -> Path:
    return Path(unquote(uri.removeprefix("file://")))

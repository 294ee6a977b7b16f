from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from quota.domain.space import Space
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

    def test_says_how_full_it_is_once_a_test_has_said_how_large(self, store: MemoryStore, uri: str) -> None:
        assert store.space() is None
        store.total_bytes = 2_000
        full = Space(file_system="memory://store/", total_bytes=2_000, free_bytes=2_000 - 1_007)
        assert store.space() == full
        store.trash(uri, "claim", manifest := store.manifest(uri))
        assert store.space() == full
        store.purge("claim", manifest)
        assert store.space() == Space(file_system="memory://store/", total_bytes=2_000, free_bytes=2_000)


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

    def test_space_is_what_df_says(self, store: LocalStore, tmp_path: Path) -> None:
        df = ["df", "--block-size=1", "--output=used,avail", str(tmp_path)]
        used, available = map(int, subprocess.run(df, check=True, capture_output=True, text=True).stdout.split()[-2:])
        space = store.space()
        # Others write to this disk meanwhile.
        assert space.total_bytes == pytest.approx(used + available, rel=0.001)
        assert space.free_bytes == pytest.approx(available, rel=0.01)

    def test_stores_on_one_file_system_are_known_to_be(self, store: LocalStore, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        assert open_store(f"file://{tmp_path}/other").space().file_system == store.space().file_system
        assert open_store("file:///dev/shm").space().file_system != store.space().file_system


def _path(uri: str) -> Path:
    return Path(unquote(uri.removeprefix("file://")))

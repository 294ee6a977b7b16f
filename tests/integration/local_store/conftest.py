"""Fixtures of the local store's tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quota_local.boundary
import quota_local.kernel
import quota_local.trashing
from integration.local_store.house import House, key, snapshot, succeeds
from quota_local import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A store with one checkpoint, and beside it a canary that nothing may ever touch."""
    root, canary = tmp_path / "root", tmp_path / "canary"
    checkpoint = root / "experiment" / "trial-1"
    for directory in (checkpoint / "sub", canary / "trial-1" / "sub"):
        directory.mkdir(parents=True)
        (directory.parent / "model.pt").write_bytes(b"weights")
        (directory / "state.bin").write_bytes(b"state")
    before = snapshot(canary)
    yield House(root, open_store(f"file://{root}"), checkpoint, f"file://{checkpoint}", canary)
    assert snapshot(canary) == before


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Which directories were synced, by device and inode."""
    seen: set[tuple[int, int]] = set()
    real = os.fsync

    def fsync(fd: int) -> None:
        status = os.fstat(fd)
        seen.add((status.st_dev, status.st_ino))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Mount something at a path; where that is not permitted, let the path look mounted to the store."""
    mounted: list[Path] = []
    pretended: set[tuple[int, int]] = set()
    real = quota_local.kernel.mount_id

    def mount_id(dir_fd: int, name: bytes = b"") -> int | None:
        status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False) if name else os.fstat(dir_fd)
        return -1 if (status.st_dev, status.st_ino) in pretended else real(dir_fd, name)

    def do(target: Path, *arguments: str) -> None:
        if succeeds("mount", *arguments, str(target)):
            mounted.append(target)
        else:
            pretended.add(key(target))
            monkeypatch.setattr(quota_local.boundary, "mount_id", mount_id)
            monkeypatch.setattr(quota_local.trashing, "mount_id", mount_id)

    yield do
    for target in reversed(mounted):
        assert succeeds("umount", "--lazy", str(target))

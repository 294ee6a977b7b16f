"""What the operating system refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.local_store.house import CLAIM, TMPFS, House, failing, open_descriptors, snapshot, succeeds
from quota.domain.manifest import Manifest
from quota.errors import PathRefused, StoreError
from quota_local import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED_ERRNOS = [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EIO, errno.EXDEV]


@pytest.mark.parametrize("code", REFUSED_ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["mkdir", "rename", "fsync", "scandir", "open"])
def test_a_refused_trash_names_store_path_and_cause_and_moves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    manifest = house.store.manifest(house.uri)
    before = snapshot(house.checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(code))
        with pytest.raises(StoreError) as refused:
            house.store.trash(house.uri, CLAIM, manifest)
    message = str(refused.value)
    for part in (f"store file://{house.root}", house.uri, errno.errorcode[code], os.strerror(code), "'some-name'"):
        assert part in message
    assert snapshot(house.checkpoint) == before
    assert not house.store.trashed(CLAIM)


@pytest.mark.parametrize("code", REFUSED_ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["quota_local.moving.rename_noreplace", "os.fsync", "os.mkdir", "os.open"])
def test_a_refused_restore_leaves_the_trash_as_it_is(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    house.evict()
    house.checkpoint.parent.rmdir()
    before = snapshot(house.trash)
    with monkeypatch.context() as patch:
        patch.setattr(name, failing(code))
        with pytest.raises(StoreError, match=errno.errorcode[code]):
            house.store.restore(house.uri, CLAIM)
    assert snapshot(house.trash) == before
    assert house.store.restore(house.uri, CLAIM)


@pytest.mark.parametrize("call", [0, 1])
def test_a_restore_that_cannot_be_made_durable_is_undone(
    house: House, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    house.evict()
    real, calls = os.fsync, iter(range(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: failing(errno.EIO)() if next(calls) == call else real(fd))
        with pytest.raises(StoreError, match="EIO"):
            house.store.restore(house.uri, CLAIM)
    assert house.store.trashed(CLAIM)
    assert not house.checkpoint.exists()
    assert house.store.restore(house.uri, CLAIM)


@pytest.mark.parametrize("code", REFUSED_ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["unlink", "rmdir", "fsync", "scandir", "open"])
def test_a_refused_purge_goes_on_when_called_again(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    manifest = house.evict()
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(code))
        with pytest.raises(StoreError, match=errno.errorcode[code]):
            house.store.purge(CLAIM, manifest)
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_a_read_only_file_system(tmp_path: Path, mount: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    mount(tmp_path, *TMPFS)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"1")
    store, uri = open_store(f"file://{tmp_path}"), f"file://{tmp_path}/a"
    manifest = store.manifest(uri)
    if not succeeds("mount", "-o", "remount,ro", str(tmp_path)):
        monkeypatch.setattr(os, "mkdir", failing(errno.EROFS))
    with pytest.raises(StoreError, match=r"EROFS.*read-only"):
        store.trash(uri, CLAIM, manifest)
    assert store.manifest(uri) == manifest


def test_no_descriptor_is_left_open(house: House) -> None:
    def count() -> int:
        return len(open_descriptors())

    (house.root / "link").symlink_to(house.canary)
    before = count()
    manifest = house.evict()
    house.store.restore(house.uri, CLAIM)
    house.evict()
    (house.trashed / "stranger").touch()
    for call in (
        lambda: house.store.manifest(house.uri),
        lambda: house.store.manifest(f"file://{house.root}/link/a"),
        lambda: house.store.trash(f"file://{house.root}/none/a", "other", manifest),
        lambda: house.store.purge(CLAIM, manifest),
        lambda: house.store.purge(CLAIM, Manifest()),
    ):
        with pytest.raises((StoreError, PathRefused)):
            call()
    assert count() == before

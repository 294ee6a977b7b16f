"""A restore replaces nothing, even where the kernel has no rename for that."""

from __future__ import annotations

import ctypes
import errno

import pytest

import quota_local.kernel
from integration.local_store.house import CLAIM, Crash, House, crash_at
from quota.errors import CheckpointChanged


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_local.kernel, "_renameat2", None)


@pytest.mark.usefixtures("old_kernel")
@pytest.mark.parametrize("place", ["experiment/trial-1", "experiment/trial-1/model.pt"])
def test_restore_replaces_nothing_on_an_old_kernel(house: House, place: str) -> None:
    uri, target = f"file://{house.root}/{place}", house.root / place
    manifest = house.store.manifest(uri)
    house.store.trash(uri, CLAIM, manifest)
    if place.endswith("pt"):
        target.write_bytes(b"later")
    else:
        target.mkdir()
    with pytest.raises(CheckpointChanged, match="something else"):
        house.store.restore(uri, CLAIM)
    assert house.store.trashed(CLAIM)
    if target.is_dir():
        target.rmdir()
    else:
        assert target.read_bytes() == b"later"
        target.unlink()
    assert house.store.restore(uri, CLAIM)
    assert house.store.manifest(uri) == manifest
    assert not house.store.trashed(CLAIM)


@pytest.mark.usefixtures("old_kernel")
def test_a_crash_between_link_and_unlink_on_an_old_kernel(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    model = house.checkpoint / "model.pt"
    uri = f"file://{model}"
    house.store.trash(uri, CLAIM, house.store.manifest(uri))
    with monkeypatch.context() as patch:
        crash_at(patch, "unlink", 0)
        with pytest.raises(Crash):
            house.store.restore(uri, CLAIM)
    assert house.store.restore(uri, CLAIM)
    assert model.read_bytes() == b"weights"
    assert not house.store.trashed(CLAIM)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_the_flag(house: House, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def renameat2(*_args: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(quota_local.kernel, "_renameat2", renameat2)
    house.evict()
    assert house.store.restore(house.uri, CLAIM)


def test_a_new_empty_directory_is_something_else_too(house: House) -> None:
    house.evict()
    house.checkpoint.mkdir()
    with pytest.raises(CheckpointChanged, match="something else"):
        house.store.restore(house.uri, CLAIM)


def test_a_file_in_the_way_of_a_restore(house: House) -> None:
    house.evict()
    house.checkpoint.parent.rmdir()
    house.checkpoint.parent.write_bytes(b"in the way")
    with pytest.raises(CheckpointChanged, match="no directory"):
        house.store.restore(house.uri, CLAIM)
    assert house.store.trashed(CLAIM)

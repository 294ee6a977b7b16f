"""What a crash leaves, the next call completes."""

from __future__ import annotations

import stat

import pytest

from integration.local_store.house import CLAIM, Crash, House, crash_at, key


def test_everything_renamed_is_synced(house: House, synced: set[tuple[int, int]]) -> None:
    manifest = house.evict()
    assert synced == {key(house.root), key(house.trash), key(house.checkpoint.parent)}
    assert stat.S_IMODE(house.trash.stat().st_mode) == 0o711
    house.checkpoint.parent.rmdir()
    synced.clear()
    house.store.restore(house.uri, CLAIM)
    assert synced == {key(house.root), key(house.checkpoint.parent), key(house.trash)}
    house.evict()
    synced.clear()
    house.store.purge(CLAIM, manifest)
    assert synced == {key(house.trash)}


@pytest.mark.parametrize("call", [0, 1])
def test_a_crash_between_the_rename_into_the_trash_and_its_sync(
    house: House, synced: set[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    house.trash.mkdir()
    manifest = house.store.manifest(house.uri)
    with monkeypatch.context() as patch:
        crash_at(patch, "fsync", call)
        with pytest.raises(Crash):
            house.store.trash(house.uri, CLAIM, manifest)
    synced.clear()
    house.store.trash(house.uri, CLAIM, manifest)
    assert synced == {key(house.trash), key(house.checkpoint.parent)}
    assert house.store.restore(house.uri, CLAIM)


@pytest.mark.parametrize("call", [0, 1])
def test_a_crash_between_the_rename_back_and_its_sync(
    house: House, synced: set[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    manifest = house.evict()
    with monkeypatch.context() as patch:
        crash_at(patch, "fsync", call)
        with pytest.raises(Crash):
            house.store.restore(house.uri, CLAIM)
    synced.clear()
    assert not house.store.restore(house.uri, CLAIM)
    assert synced == {key(house.trash), key(house.checkpoint.parent)}
    assert house.store.manifest(house.uri) == manifest


@pytest.mark.parametrize(("name", "call"), [("unlink", 0), ("unlink", 1), ("rmdir", 0), ("rmdir", 1), ("fsync", 0)])
def test_a_crash_while_purging(house: House, monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    manifest = house.evict()
    with monkeypatch.context() as patch:
        crash_at(patch, name, call)
        with pytest.raises(Crash):
            house.store.purge(CLAIM, manifest)
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_trash_again_where_the_way_is_gone_by_now(house: House) -> None:
    manifest = house.evict()
    house.checkpoint.parent.rmdir()
    house.store.trash(house.uri, CLAIM, manifest)
    house.checkpoint.parent.symlink_to(house.canary)
    house.store.trash(house.uri, CLAIM, manifest)
    assert house.store.trashed(CLAIM)

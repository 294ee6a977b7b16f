"""What a crash leaves at any request, the next call of another process completes or undoes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from integration.s3_store.house import CLAIM, FILES, Crash, CrashAt, House, listening
from quota.errors import CheckpointGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quota.domain.manifest import Manifest
    from s3_servers import Kind

FEWEST_REQUESTS = 6


def crashes(
    new_house: Callable[[Kind], House],
    kind: Kind,
    prepare: Callable[[House], Manifest],
    act: Callable[[House, Manifest], object],
) -> Iterator[tuple[House, Manifest]]:
    """Let `act` die before its first request, before its second, and so on until it comes through."""
    for number in range(200):
        house = new_house(kind)
        manifest = prepare(house)
        crash = CrashAt(number)
        with listening(house.store, "before-send.s3", crash):
            if number < FEWEST_REQUESTS:
                with pytest.raises(Crash):
                    act(house, manifest)
            else:
                with suppress(Crash):
                    act(house, manifest)
        if not crash.crashed:
            return
        house.store = house.opened()
        yield house, manifest
    pytest.fail("it takes far more requests than it should")


def looked_at(house: House) -> Manifest:
    return house.store.manifest(house.uri)


def trash(house: House, manifest: Manifest) -> None:
    house.store.trash(house.uri, CLAIM, manifest)


def restore(house: House, _: Manifest) -> bool:
    return house.store.restore(house.uri, CLAIM)


def purge(house: House, manifest: Manifest) -> None:
    house.store.purge(CLAIM, manifest)


def require_whole(house: House, manifest: Manifest) -> None:
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest
    assert not house.store.trashed(CLAIM)
    # It is kept where the process that was cut off might only be frozen.
    assert not house.store.restore(house.uri, CLAIM)
    house.store.release(house.uri, CLAIM)
    assert house.in_trash() == set()


def require_in_trash(house: House, manifest: Manifest) -> None:
    assert house.store.trashed(CLAIM)
    assert house.files() == {}
    with pytest.raises(CheckpointGone):
        house.store.manifest(house.uri)
    assert house.store.restore(house.uri, CLAIM)
    require_whole(house, manifest)


def require_purged(house: House) -> None:
    assert house.files() == {}
    assert not house.store.trashed(CLAIM)
    assert house.in_trash() == set()
    assert house.everything(house.prefix) == set()
    assert not house.store.restore(house.uri, CLAIM)


def test_a_trash_that_was_cut_off_is_finished(new_house: Callable[[Kind], House], kind: Kind) -> None:
    for house, manifest in crashes(new_house, kind, looked_at, trash):
        trash(house, manifest)
        require_in_trash(house, manifest)


def test_a_trash_that_was_cut_off_is_undone(new_house: Callable[[Kind], House], kind: Kind) -> None:
    for house, manifest in crashes(new_house, kind, looked_at, trash):
        was_there = house.store.trashed(CLAIM)
        assert restore(house, manifest) == was_there
        require_whole(house, manifest)


def test_a_trash_that_was_cut_off_holds_something_or_nothing_is_missing(
    new_house: Callable[[Kind], House], kind: Kind
) -> None:
    for house, manifest in crashes(new_house, kind, looked_at, trash):
        assert house.store.trashed(CLAIM) or house.store.manifest(house.uri) == manifest


def test_a_purge_after_a_trash_that_was_cut_off_leaves_all_or_nothing(
    new_house: Callable[[Kind], House], kind: Kind
) -> None:
    for house, manifest in crashes(new_house, kind, looked_at, trash):
        was_there = house.store.trashed(CLAIM)
        purge(house, manifest)
        if was_there:
            require_purged(house)
        else:
            require_whole(house, manifest)


def test_a_restore_that_was_cut_off_is_finished(new_house: Callable[[Kind], House], kind: Kind) -> None:
    for house, manifest in crashes(new_house, kind, House.evict, restore):
        restore(house, manifest)
        require_whole(house, manifest)


def test_a_restore_that_was_cut_off_is_taken_back(new_house: Callable[[Kind], House], kind: Kind) -> None:
    for house, manifest in crashes(new_house, kind, House.evict, restore):
        trash(house, manifest)
        require_in_trash(house, manifest)


def test_a_purge_after_a_restore_that_was_cut_off_leaves_all_or_nothing(
    new_house: Callable[[Kind], House], kind: Kind
) -> None:
    for house, manifest in crashes(new_house, kind, House.evict, restore):
        was_there = house.store.trashed(CLAIM)
        purge(house, manifest)
        if was_there:
            require_purged(house)
        else:
            require_whole(house, manifest)


def test_a_purge_that_was_cut_off_is_finished(new_house: Callable[[Kind], House], kind: Kind) -> None:
    for house, manifest in crashes(new_house, kind, House.evict, purge):
        purge(house, manifest)
        require_purged(house)

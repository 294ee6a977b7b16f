"""A process that was frozen until another one had its turn destroys nothing of what that one has done."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from integration.s3_store.house import CLAIM, FILES, Crash, House, listening
from quota.errors import LeaseLost, QuotaError
from quota_s3.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quota.domain.manifest import Manifest
    from s3_servers import Kind

MOST_REQUESTS = 60


class Freeze:
    """Lets a process be frozen before its n-th request, until `meanwhile` is done; what it may do then is as told.

    Attributes:
        is_over: Whether it has been frozen.
    """

    def __init__(self, number: int, meanwhile: Callable[[], object]) -> None:
        self.left, self._meanwhile, self.is_over = number, meanwhile, False
        self._lock = threading.RLock()

    def __call__(self, **_: object) -> None:
        with self._lock:
            self.left -= 1
            if self.left == 0:
                self.is_over = True
                self._meanwhile()

    def require(self) -> None:
        """Let nothing more be requested that changes anything."""
        if self.is_over:
            raise LeaseLost("the lease is over")


@contextmanager
def frozen(store: S3Store, freeze: Freeze, *, fenced: bool) -> Iterator[None]:
    """Freeze what a store does in the block. Without a fence no clock could tell that it was frozen."""
    if fenced:
        store.fence(freeze.require)
    # Before the fence is asked: what is sent already cannot be held up.
    with suppress(QuotaError, Crash), listening(store, "before-call.s3", freeze):
        yield


def freezes(
    new_house: Callable[[Kind], House],
    kind: Kind,
    prepare: Callable[[House], Manifest],
    meanwhile: Callable[[House, Manifest], object],
    act: Callable[[House, Manifest], object],
) -> Iterator[tuple[House, Manifest]]:
    """Let `act` be frozen before its first request, before its second, and so on, until `meanwhile` is done."""
    for number in range(1, MOST_REQUESTS):
        house = new_house(kind)
        manifest = prepare(house)
        freeze = Freeze(number, lambda house=house, manifest=manifest: meanwhile(house, manifest))
        with frozen(house.store, freeze, fenced=True):
            act(house, manifest)
        if not freeze.is_over:
            return
        house.store = house.opened()
        yield house, manifest
    pytest.fail("it takes far more requests than it should")


def looked_at(house: House) -> Manifest:
    return house.store.manifest(house.uri)


def trash(house: House, manifest: Manifest) -> None:
    house.store.trash(house.uri, CLAIM, manifest)


def restore(house: House, _: Manifest) -> None:
    house.store.restore(house.uri, CLAIM)


def trash_elsewhere(house: House, manifest: Manifest) -> None:
    house.opened().trash(house.uri, CLAIM, manifest)


def cut_off_move(house: House) -> Manifest:
    """Let a sweep die when it has begun a move and moved nothing."""
    manifest = looked_at(house)
    event = {"unversioned": "before-call.s3.CopyObject", "versioned": "before-call.s3.DeleteObjects"}[house.kind]

    def die(**_: object) -> None:
        raise Crash

    with listening(house.store, event, die), pytest.raises(Crash):
        trash(house, manifest)
    house.store = house.opened()
    return manifest


def require_in_trash(house: House, manifest: Manifest) -> None:
    assert house.files() == {}
    assert house.store.trashed(CLAIM)
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest


def test_a_sweep_that_wakes_leaves_what_the_next_one_has_moved(new_house: Callable[[Kind], House], kind: Kind) -> None:
    for house, manifest in freezes(new_house, kind, looked_at, trash_elsewhere, trash):
        require_in_trash(house, manifest)


def test_a_restore_that_wakes_leaves_what_a_sweep_has_moved(new_house: Callable[[Kind], House], kind: Kind) -> None:
    for house, manifest in freezes(new_house, kind, cut_off_move, trash_elsewhere, restore):
        require_in_trash(house, manifest)


@pytest.mark.parametrize("number", range(1, 12))
def test_without_a_fence_a_move_that_fails_leaves_a_claim_that_another_has_taken_up(house: House, number: int) -> None:
    manifest = looked_at(house)
    freeze = Freeze(number, lambda: trash_elsewhere(house, manifest))

    def fail(**_: object) -> None:
        if freeze.is_over:
            raise LeaseLost("the lease is over")

    copying = {"unversioned": "before-call.s3.CopyObject", "versioned": "before-call.s3.DeleteObjects"}[house.kind]
    with listening(house.store, copying, fail), frozen(house.store, freeze, fenced=False):
        trash(house, manifest)
    house.store = house.opened()
    require_in_trash(house, manifest)


def test_a_copy_back_that_was_frozen_replaces_no_later_checkpoint(unversioned: House) -> None:
    manifest = looked_at(unversioned)
    with listening(unversioned.store, "before-call.s3.DeleteObject", Freeze(1, _die)), pytest.raises(Crash):
        trash(unversioned, manifest)
    later = {name: b"later" for name in FILES if not name.endswith("/")}

    def go_on() -> None:
        unversioned.opened().restore(unversioned.uri, CLAIM)
        unversioned.fill(later)

    unversioned.store = unversioned.opened()
    freeze = Freeze(1, go_on)
    # No clock tells it, as where the database ended the transaction for another reason.
    with suppress(QuotaError), listening(unversioned.store, "before-call.s3.CopyObject", freeze):
        unversioned.store.restore(unversioned.uri, CLAIM)
    assert freeze.is_over
    assert {name: content for name, content in unversioned.files().items() if name in later} == later


def _die() -> None:
    raise Crash

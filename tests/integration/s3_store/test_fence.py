"""A process that may no longer hold its lease requests nothing more of a move; whoever takes it up undoes it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from integration.s3_store.house import CLAIM, FILES, House
from quota.errors import LeaseLost
from quota.ports import DistantStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3_servers import Kind


class Expiring:
    """A lease that is good for so many requests."""

    def __init__(self, left: int) -> None:
        self.left, self.is_over = left, False
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.left -= 1
            if self.left < 0:
                self.is_over = True
                raise LeaseLost("the lease is over")


def test_nothing_is_begun_when_the_lease_is_over(house: House) -> None:
    manifest = house.store.manifest(house.uri)
    assert isinstance(house.store, DistantStore)
    house.store.fence(Expiring(0))
    before = house.everything(house.top)
    with pytest.raises(LeaseLost):
        house.store.trash(house.uri, CLAIM, manifest)
    assert house.everything(house.top) == before


def test_a_lease_that_ends_in_the_middle_of_a_move_ends_that(new_house: Callable[[Kind], House], kind: Kind) -> None:
    for left in range(50):
        house = new_house(kind)
        manifest = house.store.manifest(house.uri)
        lease = Expiring(left)
        house.store.fence(lease)
        if left < 3:
            with pytest.raises(LeaseLost):
                house.store.trash(house.uri, CLAIM, manifest)
        else:
            try:
                house.store.trash(house.uri, CLAIM, manifest)
            except LeaseLost:
                assert lease.is_over
        if not lease.is_over:
            assert house.files() == {}
            return
        # What it has moved itself, and nobody has taken up, it gives back without deleting anything of the claim.
        house.store.restore(house.uri, CLAIM)
        assert house.files() == FILES
        house.store = house.opened()
        house.store.restore(house.uri, CLAIM)
        assert house.files() == FILES
        assert house.store.manifest(house.uri) == manifest
        house.store.fence(Expiring(50))
        house.store.release(house.uri, CLAIM)
        assert house.in_trash() == set()
    pytest.fail("it takes far more requests than it should")


def test_nothing_is_purged_when_the_lease_is_over(house: House) -> None:
    manifest = house.evict()
    house.store.fence(Expiring(0))
    before = house.everything(house.top)
    with pytest.raises(LeaseLost):
        house.store.purge(CLAIM, manifest)
    assert house.everything(house.top) == before
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES

"""Two sweepers purge the same claim, and files vanish under them."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from integration.local_store.house import CLAIM, House, before_call, failing
from quota.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_another_sweeper_purging_the_same_claim(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    todo = before_call(monkeypatch, "unlink", lambda: shutil.rmtree(house.trashed))
    house.store.purge(CLAIM, manifest)
    assert not todo
    assert not house.store.trashed(CLAIM)


def test_another_sweeper_that_is_always_a_little_faster(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(150):
        (house.checkpoint / "sub" / f"{number}").touch()
    manifest = house.evict()
    real: Callable[..., None] = os.unlink

    def unlink(name: bytes, *, dir_fd: int) -> None:
        real(name, dir_fd=dir_fd)
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_another_sweeper_is_done_before_the_directory_is_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    todo = before_call(monkeypatch, "open", lambda: shutil.rmtree(house.trashed), lambda name: name == b"sub")
    house.store.purge(CLAIM, manifest)
    assert not todo
    assert not house.store.trashed(CLAIM)


def test_two_threads_purge_one_claim(house: House) -> None:
    for number in range(300):
        (house.checkpoint / "sub" / f"{number}").write_bytes(b"x")
    manifest, barrier = house.evict(), Barrier(2)

    def purge() -> None:
        barrier.wait()
        house.store.purge(CLAIM, manifest)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(purge) for _ in range(2)]:
            done.result()
    assert not house.store.trashed(CLAIM)


def test_files_that_are_listed_and_never_found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    monkeypatch.setattr(os, "scandir", failing(errno.ENOENT))
    with pytest.raises(StoreError, match="keep vanishing"):
        house.store.purge(CLAIM, manifest)

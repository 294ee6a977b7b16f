"""A survey lists what is there, follows nothing, leaves nothing out in silence, and stays in bounded memory."""

from __future__ import annotations

import errno
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.local_store.house import TMPFS, House
from quota.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from quota.domain.reconciliation import StoredItem


def listed(house: House) -> dict[bytes, StoredItem]:
    items = list(house.store.survey())
    assert len({item.path for item in items}) == len(items)
    return {item.path: item for item in items}


OWN = {
    b"experiment/",
    b"experiment/trial-1/",
    b"experiment/trial-1/model.pt",
    b"experiment/trial-1/sub/",
    b"experiment/trial-1/sub/state.bin",
}


def test_directories_and_files_are_listed(house: House) -> None:
    (house.root / "empty").mkdir()
    found = listed(house)
    assert found.keys() == OWN | {b"empty/"}
    assert found[b"experiment/trial-1/model.pt"].size_bytes == len(b"weights")
    assert {item.problem for item in found.values()} == {None}


def test_names_are_bytes(house: House) -> None:
    (Path(os.fsdecode(bytes(house.root) + b"/\xff%2F"))).write_bytes(b"12")
    assert listed(house)[b"\xff%2F"].size_bytes == 2


def test_links_and_other_things_are_listed_and_not_followed(house: House) -> None:
    (house.root / "link").symlink_to(house.canary)
    os.mkfifo(house.root / "fifo")
    found = listed(house)
    assert found.keys() == OWN | {b"link", b"fifo"}
    assert (found[b"link"].size_bytes, found[b"fifo"].size_bytes) == (0, 0)


def test_the_trash_is_the_root_s_only(house: House) -> None:
    (house.checkpoint / ".trash").write_bytes(b"w")
    assert listed(house).keys() == OWN | {b"experiment/trial-1/.trash"}
    (house.checkpoint / ".trash").unlink()
    house.evict()
    assert listed(house).keys() == {b"experiment/"}
    (house.root / "other" / ".trash").mkdir(parents=True)
    (house.root / "other" / "9").mkdir()
    found = listed(house)
    assert found.keys() == {b"experiment/", b"other/"}
    assert "another store's root" in (found[b"other/"].problem or "")


def test_what_is_mounted_below_is_not_looked_into(house: House, mount: Callable[..., None]) -> None:
    mount(house.checkpoint, *TMPFS)
    found = listed(house)
    assert found.keys() == {b"experiment/", b"experiment/trial-1/"}
    assert "mount point" in (found[b"experiment/trial-1/"].problem or "")


def test_what_may_not_be_read_is_listed_with_the_reason(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"trial-1":
            raise PermissionError(errno.EACCES, "closed")
        return real(path, flags, mode, dir_fd=dir_fd)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    found = listed(house)
    assert found.keys() == {b"experiment/", b"experiment/trial-1/"}
    assert found[b"experiment/trial-1/"].problem == "Permission denied (EACCES)"


def test_a_root_that_went_away_says_so(house: House) -> None:
    house.root.rename(house.root.with_name("gone"))
    house.root.mkdir()
    with pytest.raises(StoreError, match="is its disk mounted"):
        listed(house)


def test_what_vanishes_once_its_name_was_read_is_no_error(house: House) -> None:
    for name in "abc":
        (house.root / name).write_bytes(b"w")
    items = house.store.survey()
    first = os.fsdecode(next(items).path)
    for path in house.root.iterdir():
        if path.name != first.rstrip("/"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert {item.path for item in items} <= OWN


def test_a_directory_that_vanishes_before_it_is_opened_is_no_error(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def remove_first(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"trial-1":
            shutil.rmtree(house.checkpoint)
        return real(path, flags, mode, dir_fd=dir_fd)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", remove_first)
    found = listed(house)
    assert found.keys() == {b"experiment/", b"experiment/trial-1/"}
    assert found[b"experiment/trial-1/"].problem is None


def test_a_tree_of_any_depth_ends_in_a_reason(house: House) -> None:
    fd = os.open(house.root, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    found = listed(house)
    (deepest,) = [item for item in found.values() if item.problem]
    assert deepest.problem == "it lies more than 128 directories deep"
    assert deepest.path == b"d/" * 128


def test_what_was_unpacked_just_now_is_young(house: House) -> None:
    """Archives and copies keep the time when a file was written."""
    file = house.checkpoint / "model.pt"
    os.utime(file, (0, 0))
    modified_at = listed(house)[b"experiment/trial-1/model.pt"].modified_at
    assert datetime.now(UTC) - modified_at < timedelta(hours=1)


def test_a_time_of_any_year_is_told(house: House) -> None:
    os.utime(house.checkpoint / "model.pt", ns=(0, 2**62))
    assert listed(house)[b"experiment/trial-1/model.pt"].modified_at.year > 2100


def test_no_descriptor_is_left_open(house: House) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    listed(house)
    items = house.store.survey()
    for _ in range(3):
        next(items)
    items.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("written", "leads_to"),
    [
        ("../blobs/abc", {b"blobs/abc"}),
        ("../experiment", {b"experiment"}),
        ("..", {b""}),
        ("{root}/blobs/abc", {b"blobs/abc"}),
        ("{root}", {b""}),
        ("../../elsewhere", set()),
        ("/", set()),
        ("{root}-2/blobs", set()),
        ("{home}/scratch/blobs/abc", {b"blobs/abc"}),
        ("{home}/scratch", {b""}),
        ("../../home/scratch/experiment/../blobs", {b"blobs"}),
        ("../other/../blobs", {b"other", b"experiment/blobs"}),
        ("../other/blobs", {b"other", b"experiment/trial-1/blobs"}),
        ("{home}/other/blobs", {b"other", b"experiment/trial-1/blobs"}),
        ("weights", {b"snapshot/weights"}),
    ],
)
def test_it_is_told_where_in_the_store_a_link_leads(house: House, written: str, leads_to: set[bytes]) -> None:
    """Also by a name of the store that nobody told it, such as a link in a home directory."""
    home = house.root.with_name("home")
    home.mkdir()
    (home / "scratch").symlink_to(house.root)
    (home / "other").symlink_to("scratch/other")
    (house.root / "other").symlink_to("experiment/trial-1")
    (house.root / "snapshot").mkdir()
    (house.root / "snapshot/weights").symlink_to(written.format(root=house.root, home=home))
    assert set(listed(house)[b"snapshot/weights"].leads_to) == leads_to


def test_a_link_past_where_nobody_may_look_may_lead_anywhere(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = house.root.with_name("closed")
    closed.symlink_to(house.root)
    (house.root / "link").symlink_to(closed / "experiment")
    real = os.readlink

    def readlink(path: Path) -> str:
        if path == closed:
            raise PermissionError(errno.EACCES, "closed")
        return real(path)

    monkeypatch.setattr(os, "readlink", readlink)
    assert listed(house)[b"link"].leads_to == (b"",)


@pytest.mark.parametrize(("bound", "leads_to"), [("", b"experiment"), ("experiment", b"experiment/trial-1")])
def test_a_link_by_a_directory_that_is_mounted_twice(
    house: House, mount: Callable[..., None], bound: str, leads_to: bytes
) -> None:
    elsewhere = house.root.with_name("elsewhere")
    elsewhere.mkdir()
    mount(elsewhere, "--bind", str(house.root / bound))
    if not (elsewhere / leads_to.decode().removeprefix(f"{bound}/")).exists():
        pytest.skip("nothing can be mounted here")
    (house.root / "link").symlink_to(elsewhere / leads_to.decode().removeprefix(f"{bound}/"))
    assert listed(house)[b"link"].leads_to == (leads_to,)

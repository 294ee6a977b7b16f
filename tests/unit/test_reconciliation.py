"""Every item of a store belongs to one checkpoint or to one orphan, and orphans are as large as they can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quota.domain.locations import parse_location
from quota.domain.reconciliation import Comparison, Expected, Orphan, StoredItem

START = datetime(2026, 1, 1, tzinfo=UTC)
ROOTS = {"s3": "s3://bucket/hpo/", "file": "file:///scratch/hpo"}
names = st.text("ab-0", min_size=1, max_size=2)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


def expected(uri: str, **more: object) -> Expected:
    facts = {"experiment_id": "x", "trial_id": "1", "state": "stored", "size_bytes": 1, "saved_position": 3}
    return Expected(uri=uri, saved_at=START, **{**facts, **more})  # type: ignore[arg-type]


def compared(comparison: Comparison, items: list[StoredItem]) -> list[Orphan]:
    found = [comparison.take(item) for item in items]
    return [orphan for orphan in (*found, comparison.close()) if orphan is not None]


def file(path: str, size: int = 1, minute: int = 0, problem: str | None = None) -> StoredItem:
    moment = START + timedelta(minutes=minute)
    return StoredItem(path=path.encode(), size_bytes=size, modified_at=moment, problem=problem)


def is_around(place: str, path: str) -> bool:
    return f"{path}/".startswith(f"{place}/")


@given(st.lists(paths, max_size=6), st.lists(paths, max_size=12, unique=True))
def test_each_file_has_one_owner(places: list[str], listed: list[str]) -> None:
    # No two checkpoints overlap, and no file is a directory as well.
    places = [one for one in set(places) if not any(is_around(other, one) for other in set(places) - {one})]
    listed = [one for one in listed if not any(is_around(one, other) for other in {*listed, *places} - {one})]
    comparison = Comparison(parse_location(ROOTS["file"]), [expected(f"{ROOTS['file']}/{place}") for place in places])
    by_directory = sorted(listed, key=lambda path: path.split("/"))
    orphans = compared(comparison, [file(path, size=1 + number) for number, path in enumerate(by_directory)])
    sizes = {path: 1 + number for number, path in enumerate(by_directory)}
    for one in comparison.expected:
        place = one.uri.removeprefix(f"{ROOTS['file']}/")
        own = [size for path, size in sizes.items() if is_around(place, path)]
        assert (one.is_found, one.found_bytes) == (bool(own), sum(own))
    alone = [path for path in by_directory if not any(is_around(place, path) for place in places)]
    assert sum(orphan.files for orphan in orphans) == len(alone)
    for orphan in orphans:
        path = orphan.path.decode().removesuffix("/")
        held = [one for one in alone if is_around(path, one)]
        assert (orphan.files, orphan.size_bytes) == (len(held), sum(sizes[one] for one in held))
        # It holds no checkpoint, and the directory around it does.
        assert not any(is_around(path, place) for place in places)
        above = path.rpartition("/")[0]
        assert not above or any(is_around(above, place) for place in places)


@pytest.mark.parametrize(
    ("scheme", "uri", "paths", "orphans"),
    [
        ("s3", "s3://bucket/hpo/1/", ["1", "1/w", "10/w"], ["1", "10/"]),
        ("s3", "s3://bucket/hpo/x/1/", ["x", "x/", "x/1", "x/1/", "x/1/w", "x//w"], ["x", "x/1", "x//"]),
        ("file", "file:///scratch/hpo/x/1", ["x/", "x/1", "x/10"], ["x/10"]),
        ("file", "file:///scratch/hpo/x/1", ["x/", "x/1/", "x/2/", "x/2/w", "y/"], ["x/2/", "y/"]),
        ("file", "file:///scratch/hpo/%FF", [], []),
    ],
)
def test_what_is_nobody_s(scheme: str, uri: str, paths: list[str], orphans: list[str]) -> None:
    comparison = Comparison(parse_location(ROOTS[scheme]), [expected(uri)])
    found = compared(comparison, [file(path) for path in paths])
    assert [orphan.path.decode() for orphan in found] == orphans


def test_names_that_are_no_utf_8() -> None:
    comparison = Comparison(parse_location(ROOTS["file"]), [one := expected("file:///scratch/hpo/%FF/1")])
    item = StoredItem(path=b"\xff/1/w", size_bytes=5, modified_at=START)
    assert compared(comparison, [item]) == []
    assert one.found_bytes == 5


def test_an_orphan_is_as_young_as_its_youngest_file() -> None:
    (orphan,) = compared(Comparison(parse_location(ROOTS["s3"]), []), [file("a/b", minute=9), file("a/c", minute=1)])
    assert orphan.modified_at == START + timedelta(minutes=9)
    assert orphan.is_whole


def test_what_could_not_be_looked_into_is_not_taken_for_smaller() -> None:
    one = expected("s3://bucket/hpo/1/", size_bytes=7)
    (orphan,) = compared(
        Comparison(parse_location(ROOTS["s3"]), [one]), [file("1/w/", problem="closed"), file("2/", problem="closed")]
    )
    assert not one.has_another_size
    assert not orphan.is_whole


@pytest.mark.parametrize(
    ("state", "is_listed", "verdicts"),
    [
        ("stored", True, (False, False, True)),
        ("stored", False, (True, False, False)),
        ("claimed", True, (False, False, False)),
        ("claimed", False, (False, False, False)),
        ("missing", True, (False, True, False)),
        ("missing", False, (False, False, False)),
    ],
)
def test_what_differs(state: str, *, is_listed: bool, verdicts: tuple[bool, ...]) -> None:
    one = expected("s3://bucket/hpo/1/", state=state)
    compared(Comparison(parse_location(ROOTS["s3"]), [one]), [file("1/w", size=9)] * is_listed)
    assert (one.is_absent, one.has_turned_up, one.has_another_size) == verdicts


@pytest.mark.parametrize(("path", "is_beside"), [("other/weights", False), ("notes", False), ("trials/notes", True)])
def test_orphans_beside_checkpoints_are_known(path: str, *, is_beside: bool) -> None:
    comparison = Comparison(parse_location(ROOTS["file"]), [expected(f"{ROOTS['file']}/trials/1")])
    (orphan,) = compared(comparison, [file(path)])
    assert orphan.is_beside == is_beside


def link(path: str, to: str) -> StoredItem:
    return StoredItem(path=path.encode(), size_bytes=0, modified_at=START, leads_to=(to.encode(),))


@pytest.mark.parametrize(
    ("one", "linked"),
    [
        (link("trials/1/weights", "shared/blobs/abc"), {b"shared"}),
        (link("trials/1/weights", "trials/blobs/abc"), {b"trials/blobs"}),
        (link("trials/1/weights", "trials/blobs"), {b"trials/blobs"}),
        (link("trials/1/weights", "trials"), {b"trials"}),
        (link("trials/1/weights", ""), {b""}),
        (link("other/weights", "shared/abc"), {b"shared"}),
        (link("latest", "trials/1"), set()),
        (link("trials/1/last", "trials/1/weights"), set()),
        (link("other/last", "other/weights"), set()),
    ],
)
def test_links_are_remembered_that_lead_from_elsewhere_into_orphans(one: StoredItem, linked: set[bytes]) -> None:
    comparison = Comparison(parse_location(ROOTS["file"]), [expected(f"{ROOTS['file']}/trials/1")])
    comparison.take(one)
    assert set(comparison.linked) == linked

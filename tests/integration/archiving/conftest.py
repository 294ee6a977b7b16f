"""A finished experiment on each kind of database, with a place for its archive of each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from archives import BucketShelf, DirectoryShelf, Shelf, finish_with_nothing_left
from support import create_schema
from sweeps import Sweeps, sweeps_over

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    """Over a database with the finished experiment `x`, of which nothing is stored any more."""
    create_schema(database_url)
    with sweeps_over(database_url) as found:
        finish_with_nothing_left(found)
        yield found


@pytest.fixture
def on_sqlite(sqlite_url: str) -> Iterator[Sweeps]:
    """The same on SQLite alone, for what has nothing to do with the database."""
    create_schema(sqlite_url)
    with sweeps_over(sqlite_url) as found:
        finish_with_nothing_left(found)
        yield found


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryShelf:
    return DirectoryShelf(tmp_path / "archives")


@pytest.fixture(params=["directory", "bucket"])
def shelf(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shelf:
    """Where archives are to lie, on each kind of place in turn."""
    if request.param == "directory":
        found: DirectoryShelf = request.getfixturevalue("directory")
        return found
    request.getfixturevalue("s3_environment")
    # What is set for the archives' client holds for this process, and is taken back with the rest.
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    buckets = request.getfixturevalue("s3_buckets")
    return BucketShelf(request.getfixturevalue("s3_server"), buckets["unversioned"], f"archives-{tmp_path.name}/")

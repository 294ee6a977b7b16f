"""Names that lead to one directory are told to, whatever links are on the way."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from quota.errors import StoreError
from quota_local.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from quota_local.store import LocalStore


@pytest.fixture
def real(tmp_path: Path) -> Path:
    directory = tmp_path / "real" / "7"
    directory.mkdir(parents=True)
    (directory / "weights").write_bytes(b"w")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    return directory


@pytest.fixture
def store(tmp_path: Path, real: Path) -> LocalStore:
    assert real.exists()
    return open_store(f"file://{tmp_path}/link")


@pytest.mark.parametrize(
    ("name", "is_same"),
    [
        ("link/7", True),
        ("latest", True),
        ("by/way/7", True),
        ("real/70", False),
        ("link/70", False),
        ("nothing/7", False),
        ("loop/7", False),
        ("real", False),
    ],
)
def test_links_are_followed(tmp_path: Path, real: Path, store: LocalStore, name: str, *, is_same: bool) -> None:
    (tmp_path / "latest").symlink_to("link/7")
    (tmp_path / "by").mkdir()
    (tmp_path / "by" / "way").symlink_to("../link")
    (tmp_path / "loop").symlink_to("loop")
    assert (store.place(f"file://{tmp_path}/{name}") == store.place(f"file://{real}")) == is_same


def test_a_name_that_no_file_can_have_leads_nowhere(tmp_path: Path, store: LocalStore) -> None:
    uri = f"file://{tmp_path}/{'x' * 300}/7"
    assert store.place(uri) == uri


def test_a_disk_that_fails_says_so(tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> os.stat_result:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("pathlib.Path.stat", fail)
    with pytest.raises(StoreError, match="cannot follow"):
        store.place(f"file://{tmp_path}/real/7")


def test_two_names_of_one_file_are_two_places(tmp_path: Path, real: Path, store: LocalStore) -> None:
    os.link(real / "weights", tmp_path / "kept")
    assert store.place(f"file://{tmp_path}/kept") != store.place(f"file://{real}/weights")


def test_what_lies_where_nobody_may_look_could_be_anywhere(
    tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "closed")

    monkeypatch.setattr("pathlib.Path.stat", refuse)
    with pytest.raises(StoreError, match="Permission denied"):
        store.place(f"file://{tmp_path}/closed/7")


def test_a_directory_that_is_mounted_twice_is_one_place(
    tmp_path: Path, real: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "second"
    (second / "7").mkdir(parents=True)
    look = type(tmp_path).stat

    def as_mounted(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        return look(real.parent if path == second else path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr("pathlib.Path.stat", as_mounted)
    assert store.place(f"file://{real}") == store.place(f"file://{second}/7")


def test_a_number_that_is_used_again_is_another_directory(tmp_path: Path, store: LocalStore) -> None:
    first, second = tmp_path / "real" / "1", tmp_path / "real" / "2"
    first.mkdir()
    assert store.place(f"file://{first}").endswith("/1")
    # A trial that replaces its directory frees the number of the old one.
    first.rename(second)
    assert store.place(f"file://{second}").endswith("/2")
    first.mkdir()
    assert store.place(f"file://{first}").endswith("/1")

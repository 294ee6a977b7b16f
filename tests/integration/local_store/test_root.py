"""What may be the root of a store, and how it is known again."""

from __future__ import annotations

import errno
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.local_store.house import CLAIM, TMPFS, House, failing
from quota.domain.manifest import Manifest
from quota.errors import PathRefused, StoreError
from quota_local import open_store

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "uri",
    [
        "file:///",
        "file:///no/such/directory",
        "file:///etc/passwd",
        "file:///etc/passwd/below",
        "file:///etc/",
        "file:///etc/../etc",
        "file://host/etc",
        "/etc",
        "s3://bucket/prefix/",
        "",
    ],
)
def test_refuses_a_root_that_is_none(uri: str) -> None:
    with pytest.raises(PathRefused, match="store: field `uri`") as refused:
        open_store(uri)
    assert refused.value.value == uri


def test_refuses_a_home_directory_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, link = tmp_path / "home", tmp_path / "link"
    home.mkdir()
    link.symlink_to(home)
    open_store(f"file://{home}")
    monkeypatch.setenv("HOME", str(home))
    for root in (home, link):
        with pytest.raises(PathRefused, match="home directory"):
            open_store(f"file://{root}")


def test_refuses_the_home_directory_of_any_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = pwd.struct_passwd(("hpo", "x", 1, 1, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [account])
    with pytest.raises(PathRefused, match="home directory"):
        open_store(f"file://{tmp_path}")


def test_a_root_that_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "resolve", failing(errno.EACCES))
    with pytest.raises(StoreError, match="EACCES"):
        open_store(f"file://{tmp_path}")


def test_links_to_the_root_are_followed_once(house: House, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(house.root)
    store = open_store(f"file://{link}")
    uri = f"file://{link}/experiment/trial-1"
    manifest = store.manifest(uri)
    link.unlink()
    (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere")
    assert store.manifest(uri) == manifest
    with pytest.raises(PathRefused, match="as written there"):
        store.manifest(house.uri)


def test_another_directory_in_the_roots_place_is_not_the_store(house: House) -> None:
    manifest = house.evict()
    house.root.rename(house.root.with_name("unmounted"))
    with pytest.raises(StoreError, match="ENOENT"):
        house.store.trashed(CLAIM)
    house.root.mkdir()
    for call in (
        lambda: house.store.trashed(CLAIM),
        lambda: house.store.purge(CLAIM, manifest),
        lambda: house.store.restore(house.uri, CLAIM),
        lambda: house.store.manifest(house.uri),
    ):
        with pytest.raises(StoreError, match="is its disk mounted"):
            call()


def test_a_root_may_be_a_mount_point(tmp_path: Path, mount: Callable[..., None]) -> None:
    mount(tmp_path, *TMPFS)
    (tmp_path / "a").mkdir()
    store = open_store(f"file://{tmp_path}")
    store.trash(f"file://{tmp_path}/a", CLAIM, Manifest())
    assert store.restore(f"file://{tmp_path}/a", CLAIM)

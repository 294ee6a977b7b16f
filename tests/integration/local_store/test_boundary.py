"""Where the store ends: at mounts, home directories and trashes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quota.domain.locations
import quota_local.kernel
from integration.local_store.house import CLAIM, TMPFS, House, key, snapshot
from quota.domain.manifest import Manifest
from quota.errors import CheckpointChanged, PathRefused
from quota_local import open_store

if TYPE_CHECKING:
    from collections.abc import Callable


def bind(source: Path, target: Path, mount: Callable[..., None]) -> None:
    mount(target, "--bind", str(source))


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
@pytest.mark.parametrize("place", ["experiment", "experiment/trial-1", "experiment/trial-1/sub"])
def test_nothing_is_taken_from_another_mount(house: House, mount: Callable[..., None], kind: str, place: str) -> None:
    target = house.root / place
    if kind == "tmpfs":
        mount(target, *TMPFS)
        house.checkpoint.mkdir(parents=True, exist_ok=True)
    else:
        source = {"experiment": "", "experiment/trial-1": "trial-1", "experiment/trial-1/sub": "trial-1/sub"}[place]
        bind(house.canary / source, target, mount)
    before = snapshot(house.root)
    with pytest.raises(PathRefused, match="mount point"):
        house.store.manifest(house.uri)
    with pytest.raises(PathRefused, match="mount point"):
        house.store.trash(house.uri, CLAIM, Manifest())
    assert snapshot(house.root) == before


def test_a_file_mounted_over_another_is_refused(house: House, mount: Callable[..., None]) -> None:
    bind(house.canary / "trial-1" / "model.pt", house.checkpoint / "model.pt", mount)
    with pytest.raises(PathRefused, match="mount point") as refused:
        house.store.manifest(house.uri)
    assert refused.value.value == "model.pt"


def test_what_was_mounted_in_the_trash_is_not_purged(house: House, mount: Callable[..., None]) -> None:
    house.evict()
    source = house.canary / "trial-1" / "sub"
    manifest = open_store(f"file://{house.canary.parent}").manifest(f"file://{house.canary}/trial-1")
    bind(source, house.trashed / "sub", mount)
    with pytest.raises(CheckpointChanged, match="mount point"):
        house.store.purge(CLAIM, manifest)
    assert (house.trashed / "model.pt").exists()


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_a_trash_on_another_file_system_is_refused(house: House, mount: Callable[..., None], kind: str) -> None:
    manifest = house.store.manifest(house.uri)
    house.trash.mkdir()
    if kind == "tmpfs":
        mount(house.trash, *TMPFS)
    else:
        bind(house.canary, house.trash, mount)
    with pytest.raises(PathRefused, match=r"trash of store .*mount point"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert house.checkpoint.is_dir()


def test_another_device_is_refused_where_mounts_have_no_ids(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_local.kernel, "_statx", None)
    house.store.trash(house.uri, CLAIM, house.store.manifest(house.uri))
    assert house.store.restore(house.uri, CLAIM)
    foreign = key(house.checkpoint / "model.pt")
    real: Callable[..., os.stat_result] = os.stat

    def looked_at(*args: object, **keywords: object) -> os.stat_result:
        status = real(*args, **keywords)
        if (status.st_dev, status.st_ino) != foreign:
            return status
        return os.stat_result((*status[:2], status.st_dev + 1, *status[3:]))

    monkeypatch.setattr(os, "stat", looked_at)
    with pytest.raises(PathRefused, match="another file system"):
        house.store.manifest(house.uri)


@pytest.mark.parametrize("place", ["experiment/trial-1", "experiment/trial-1/sub"])
def test_a_checkpoint_is_and_holds_no_home_directory(house: House, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("HOME", str(house.root / place))
    store = open_store(f"file://{house.root}")
    with pytest.raises(PathRefused, match="home directory"):
        store.manifest(house.uri)


def test_a_checkpoint_may_lie_in_a_home_directory(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(house.checkpoint.parent))
    assert open_store(f"file://{house.root}").manifest(house.uri).size_bytes == 12


def test_the_trash_of_a_store_inside_is_never_taken_along(house: House) -> None:
    inner = open_store(f"file://{house.root}/experiment")
    inner.trash(house.uri, CLAIM, inner.manifest(house.uri))
    with pytest.raises(PathRefused, match="another store's root"):
        house.store.manifest(f"file://{house.root}/experiment")
    assert inner.restore(house.uri, CLAIM)


@pytest.mark.parametrize("place", [".trash", f".trash/{CLAIM}", f".trash/{CLAIM}/sub"])
def test_the_trash_is_known_by_more_than_its_name(house: House, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    # So it is on a file system that ignores case, where `.TRASH` passes the rules for URIs.
    house.evict()
    monkeypatch.setattr(quota.domain.locations, "TRASH_NAME", "another name")
    uri = f"file://{house.root}/{place}"
    with pytest.raises(PathRefused, match="the store's trash"):
        house.store.manifest(uri)
    with pytest.raises(PathRefused, match="the store's trash"):
        house.store.trash(uri, "other", Manifest())

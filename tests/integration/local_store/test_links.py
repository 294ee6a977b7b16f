"""Symbolic links: none is followed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from integration.local_store.house import CLAIM, House, before_call, snapshot
from quota.domain.manifest import Manifest
from quota.errors import CheckpointChanged, PathRefused


def refuse_all(house: House, uri: str, manifest: Manifest) -> None:
    with pytest.raises(PathRefused):
        house.store.manifest(uri)
    with pytest.raises(PathRefused):
        house.store.trash(uri, CLAIM, manifest)


def test_a_linked_parent_is_refused(house: House) -> None:
    (house.root / "link").symlink_to(house.canary)
    refuse_all(house, f"file://{house.root}/link/trial-1", house.store.manifest(house.uri))


def test_a_linked_checkpoint_is_refused(house: House) -> None:
    (house.root / "link").symlink_to(house.canary / "trial-1")
    refuse_all(house, f"file://{house.root}/link", house.store.manifest(house.uri))


def test_a_link_within_the_store_is_refused_too(house: House) -> None:
    (house.root / "link").symlink_to("experiment")
    refuse_all(house, f"file://{house.root}/link/trial-1", house.store.manifest(house.uri))
    assert house.checkpoint.is_dir()


def swap_for_twin(house: House, tmp_path: Path) -> Path:
    """Put a link to a directory with the very same inodes where the experiment was; return that directory."""
    twin = tmp_path / "twin"
    house.checkpoint.parent.rename(twin)
    house.checkpoint.parent.symlink_to(twin)
    return twin


def test_a_parent_swapped_for_a_link_after_the_decision(house: House, tmp_path: Path) -> None:
    manifest = house.store.manifest(house.uri)
    twin = swap_for_twin(house, tmp_path)
    before = snapshot(twin)
    refuse_all(house, house.uri, manifest)
    assert snapshot(twin) == before


def test_a_parent_swapped_for_a_link_at_the_last_moment(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = house.store.manifest(house.uri)
    before_call(monkeypatch, "open", lambda: swap_for_twin(house, tmp_path), lambda name: name == b"experiment")
    with pytest.raises(CheckpointChanged, match="replaced"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert (tmp_path / "twin" / "trial-1" / "model.pt").exists()


def test_a_parent_swapped_for_a_directory_at_the_last_moment(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = house.store.manifest(house.uri)

    def swap() -> None:
        house.checkpoint.parent.rename(tmp_path / "moved")
        shutil.copytree(house.canary, house.checkpoint.parent)

    before_call(monkeypatch, "open", swap, lambda name: name == b"experiment")
    with pytest.raises(CheckpointChanged, match="replaced"):
        house.store.trash(house.uri, CLAIM, manifest)


def test_restore_does_not_follow_a_linked_parent(house: House) -> None:
    house.evict()
    house.checkpoint.parent.rmdir()
    house.checkpoint.parent.symlink_to(house.canary)
    with pytest.raises(PathRefused, match="symbolic link"):
        house.store.restore(house.uri, CLAIM)
    assert house.trashed.is_dir()


def test_links_inside_are_removed_and_what_they_point_to_is_not(house: House) -> None:
    (house.checkpoint / "to-file").symlink_to(house.canary / "trial-1" / "model.pt")
    (house.checkpoint / "to-directory").symlink_to(house.canary)
    (house.checkpoint / "sub" / "to-nothing").symlink_to("nowhere")
    (house.checkpoint / "to-root").symlink_to("/")
    manifest = house.evict()
    sizes = {entry.path: entry.size_bytes for entry in manifest.entries}
    links = dict.fromkeys(["sub/to-nothing", "to-directory", "to-file", "to-root"], 0)
    assert sizes == {"model.pt": 7, "sub/state.bin": 5, **links}
    assert {entry.path for entry in manifest.entries if entry.version.startswith("link-")} == set(links)
    house.store.purge(CLAIM, manifest)
    assert list(house.trash.iterdir()) == []


def test_a_link_put_into_the_trash_is_not_followed(house: House) -> None:
    manifest = house.evict()
    shutil.rmtree(house.trashed / "sub")
    (house.trashed / "sub").symlink_to(house.canary / "trial-1" / "sub")
    with pytest.raises(CheckpointChanged, match="'sub'"):
        house.store.purge(CLAIM, manifest)
    shutil.rmtree(house.trashed)
    house.trashed.symlink_to(house.canary / "trial-1")
    with pytest.raises(CheckpointChanged):
        house.store.purge(CLAIM, manifest)


def test_a_trash_that_is_a_link_is_refused(house: House) -> None:
    manifest = house.store.manifest(house.uri)
    house.trash.symlink_to(house.canary)
    for call in (
        lambda: house.store.trash(house.uri, CLAIM, manifest),
        lambda: house.store.restore(house.uri, CLAIM),
        lambda: house.store.purge(CLAIM, manifest),
        lambda: house.store.trashed(CLAIM),
    ):
        with pytest.raises(PathRefused, match=r"\.trash"):
            call()
    assert house.checkpoint.is_dir()

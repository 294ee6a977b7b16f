"""Kinds of files, and trees of them."""

from __future__ import annotations

import os
import resource
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.local_store.house import CLAIM, House, key, open_descriptors, snapshot
from quota.domain.manifest import Manifest
from quota.errors import CheckpointChanged, PathRefused
from quota_local import open_store

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def put_special(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    def put(kind: str, path: Path) -> None:
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryDirectory() as short:
                # The path of a socket has 107 bytes at most, and pytest's are longer.
                server.bind(f"{short}/s")
                Path(short, "s").rename(path)
        else:
            path.touch()
            pretend_device(path)

    def pretend_device(path: Path) -> None:
        """Only the superuser can make one, and not in every container."""
        device = key(path)
        real: Callable[..., os.stat_result] = os.stat

        def looked_at(*args: object, **keywords: object) -> os.stat_result:
            status = real(*args, **keywords)
            if (status.st_dev, status.st_ino) != device:
                return status
            return os.stat_result((stat.S_IFCHR | 0o600, *status[1:]))

        monkeypatch.setattr(os, "stat", looked_at)

    return put


@pytest.mark.parametrize("kind", ["FIFO", "socket", "character device"])
@pytest.mark.parametrize("place", ["experiment/trial-1/sub/odd", "odd"])
def test_special_files_are_refused(
    house: House, put_special: Callable[[str, Path], None], kind: str, place: str
) -> None:
    odd = house.root / place
    put_special(kind, odd)
    uri = house.uri if place.startswith("experiment") else f"file://{odd}"
    with pytest.raises(PathRefused, match=kind) as refused:
        house.store.manifest(uri)
    assert refused.value.value == ("sub/odd" if uri == house.uri else ".")
    with pytest.raises(PathRefused, match=kind):
        house.store.trash(uri, CLAIM, Manifest())
    assert os.path.lexists(odd)


def test_a_special_file_in_the_trash_is_kept(house: House) -> None:
    manifest = house.evict()
    os.mkfifo(house.trashed / "sub" / "fifo")
    with pytest.raises(CheckpointChanged, match="sub/fifo"):
        house.store.purge(CLAIM, manifest)
    assert (house.trashed / "model.pt").exists()


def test_any_file_name_is_listed_apart_restored_and_purged(house: House) -> None:
    names = [b"\xff", b"%FF", b"a b", b"a\nb", b"-rf", b"\xc3\xa9", b"~", b"...", b"x" * 255]
    top = os.fsencode(house.checkpoint)
    for name in names:
        Path(os.fsdecode(top + b"/" + name)).write_bytes(name)
    before = snapshot(house.checkpoint)
    manifest = house.evict()
    paths = [entry.path for entry in manifest.entries]
    assert paths == sorted(paths)
    assert {"%FF", "%25FF", "a b", "a%0Ab", "-rf", "%C3%A9", "~", "..."} < set(paths)
    assert len(set(paths)) == len(names) + 2
    assert house.store.restore(house.uri, CLAIM)
    assert snapshot(house.checkpoint) == before
    house.evict()
    house.store.purge(CLAIM, manifest)
    assert list(house.trash.iterdir()) == []


def test_a_checkpoint_name_that_is_no_utf8(house: House) -> None:
    Path(os.fsdecode(os.fsencode(house.root) + b"/\xff")).mkdir()
    uri = f"file://{house.root}/%FF"
    house.store.trash(uri, CLAIM, house.store.manifest(uri))
    assert house.store.restore(uri, CLAIM)
    assert Path(os.fsdecode(os.fsencode(house.root) + b"/\xff")).is_dir()


def test_a_single_file_is_a_checkpoint(house: House) -> None:
    file = house.root / "trial-2.pt"
    file.write_bytes(b"one file")
    uri = f"file://{file}"
    manifest = house.store.manifest(uri)
    assert [(entry.path, entry.size_bytes) for entry in manifest.entries] == [(".", 8)]
    house.store.trash(uri, CLAIM, manifest)
    assert house.store.restore(uri, CLAIM)
    assert file.read_bytes() == b"one file"
    house.store.trash(uri, CLAIM, manifest)
    with pytest.raises(CheckpointChanged, match=r"'\.'"):
        house.store.purge(CLAIM, Manifest())
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_empty_directories_survive_a_restore_and_are_purged(house: House) -> None:
    (house.checkpoint / "empty" / "nested").mkdir(parents=True)
    before = snapshot(house.checkpoint)
    manifest = house.evict()
    house.store.restore(house.uri, CLAIM)
    assert snapshot(house.checkpoint) == before
    house.evict()
    house.store.purge(CLAIM, manifest)
    assert list(house.trash.iterdir()) == []


def test_the_content_of_a_hard_link_lives_on_elsewhere(house: House, tmp_path: Path) -> None:
    kept = tmp_path / "best.pt"
    kept.hardlink_to(house.checkpoint / "model.pt")
    (house.checkpoint / "again.pt").hardlink_to(kept)
    house.store.purge(CLAIM, house.evict())
    assert kept.read_bytes() == b"weights"
    assert kept.stat().st_nlink == 1


def test_two_thousand_levels_need_few_descriptors_and_no_recursion(house: House) -> None:
    depth = 2_000
    fd = os.open(house.checkpoint, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("level", dir_fd=fd)
        below = os.open("level", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(open_descriptors())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 12, hard))
    try:
        manifest = house.evict()
        assert manifest.entries[0].path == "level/" * depth + "bottom"
        house.store.restore(house.uri, CLAIM)
        house.evict()
        house.store.purge(CLAIM, manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(house.trash.iterdir()) == []


_NAMES = st.binary(min_size=1, max_size=4).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in {b".", b".."}
)
_TREES = st.recursive(
    st.binary(max_size=20) | st.sampled_from(["../canary", "/", "gone"]),
    lambda below: st.dictionaries(_NAMES, below, max_size=4),
    max_leaves=12,
)


def build(path: Path, tree: object) -> None:
    if isinstance(tree, bytes):
        path.write_bytes(tree)
    elif isinstance(tree, str):
        path.symlink_to(tree)
    elif isinstance(tree, dict):
        path.mkdir()
        for name, below in tree.items():
            build(path / os.fsdecode(name), below)


@given(tree=st.dictionaries(_NAMES, _TREES, max_size=4))
def test_any_tree_comes_back_whole_or_goes_without_a_trace(tree: dict[bytes, object]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        (top / "root").mkdir()
        (top / "canary").mkdir()
        (top / "canary" / "file").write_bytes(b"canary")
        build(top / "root" / "trial", tree)
        before = snapshot(top)
        store, uri = open_store(f"file://{top}/root"), f"file://{top}/root/trial"
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        assert store.restore(uri, CLAIM)
        after = snapshot(top)
        after.pop("root/.trash")
        assert after == before
        store.trash(uri, CLAIM, manifest)
        store.purge(CLAIM, manifest)
        assert set(snapshot(top)) == {"canary", "canary/file", "root", "root/.trash"}

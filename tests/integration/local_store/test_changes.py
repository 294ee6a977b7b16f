"""What moves or changes while it is read, trashed or purged."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.local_store.house import CLAIM, House, before_call, failing, key, snapshot
from quota.errors import CheckpointChanged, CheckpointGone, PathRefused
from quota_local import open_store

if TYPE_CHECKING:
    from collections.abc import Callable


def is_directory(path: Path) -> Callable[[object], bool]:
    wanted = key(path)

    def when(fd: object) -> bool:
        status = os.fstat(fd) if isinstance(fd, int) else None
        return status is not None and (status.st_dev, status.st_ino) == wanted

    return when


def test_a_directory_moved_out_while_it_is_listed(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub = house.checkpoint / "sub"
    before_call(monkeypatch, "scandir", lambda: sub.rename(tmp_path / "sub"), is_directory(sub))
    with pytest.raises(CheckpointChanged, match="moved"):
        house.store.manifest(house.uri)


def test_a_directory_moved_out_of_the_trash_while_it_is_purged(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = house.evict()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "sub").mkdir(parents=True)
    sub = house.trashed / "sub"

    def move() -> None:
        sub.rename(elsewhere / "moved")

    before_call(monkeypatch, "unlink", move, lambda name: name == b"state.bin")
    with pytest.raises(CheckpointChanged, match="moved"):
        house.store.purge(CLAIM, manifest)
    assert (elsewhere / "sub").is_dir()


def test_a_checkpoint_replaced_between_look_and_rename_is_put_back(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = house.store.manifest(house.uri)
    real: Callable[..., None] = os.rename

    def rename(*args: object, **keywords: object) -> None:
        monkeypatch.setattr(os, "rename", real)
        house.checkpoint.rename(tmp_path / "old")
        house.checkpoint.mkdir()
        (house.checkpoint / "model.pt").write_bytes(b"later!!")
        real(*args, **keywords)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(CheckpointChanged, match="replaced"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert (house.checkpoint / "model.pt").read_bytes() == b"later!!"
    assert not house.store.trashed(CLAIM)


def at_the_rename(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object], after: Callable[[], object]) -> None:
    """Do something right before and right after the next rename, as a trial would that writes meanwhile."""
    real: Callable[..., None] = os.rename

    def rename(*args: object, **keywords: object) -> None:
        monkeypatch.setattr(os, "rename", real)
        before()
        real(*args, **keywords)
        after()

    monkeypatch.setattr(os, "rename", rename)


@pytest.mark.parametrize("written", ["model.pt", "sub/new.bin"])
def test_a_checkpoint_written_to_between_look_and_rename_is_put_back(
    house: House, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """A trial that rotates between a few places has just begun to write its next one there."""
    manifest = house.store.manifest(house.uri)
    at_the_rename(monkeypatch, lambda: (house.checkpoint / written).write_bytes(b"later!!!"), lambda: None)
    with pytest.raises(CheckpointChanged, match="nothing was moved"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert (house.checkpoint / written).read_bytes() == b"later!!!"
    assert (house.checkpoint / "sub" / "state.bin").read_bytes() == b"state"
    assert not house.store.trashed(CLAIM)


def test_a_fifo_made_between_look_and_rename_is_put_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.store.manifest(house.uri)
    at_the_rename(monkeypatch, lambda: os.mkfifo(house.checkpoint / "fifo"), lambda: None)
    with pytest.raises(PathRefused, match="FIFO"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert (house.checkpoint / "fifo").exists()
    assert not house.store.trashed(CLAIM)


def test_a_checkpoint_written_to_before_and_after_the_rename_stays_in_the_trash(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is moved over what lies at the place by now, and nothing of the two is ever purged or merged."""
    manifest = house.store.manifest(house.uri)

    def go_on() -> None:
        house.checkpoint.mkdir()
        (house.checkpoint / "state.bin").write_bytes(b"the rest")

    at_the_rename(monkeypatch, lambda: (house.checkpoint / "model.pt").write_bytes(b"later!!"), go_on)
    with pytest.raises(CheckpointChanged, match=rf"stays in the trash as {CLAIM}"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert snapshot(house.checkpoint).keys() == {"state.bin"}
    for refusing in (house.store.require_purgeable, house.store.purge):
        with pytest.raises(CheckpointChanged, match=r"model\.pt"):
            refusing(CLAIM, manifest)
    assert (house.trashed / "model.pt").read_bytes() == b"later!!"


def test_a_checkpoint_that_vanishes_between_look_and_rename(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.store.manifest(house.uri)
    monkeypatch.setattr(os, "rename", failing(errno.ENOENT))
    with pytest.raises(CheckpointGone):
        house.store.trash(house.uri, CLAIM, manifest)


def test_a_file_that_vanishes_while_it_is_listed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    model = house.checkpoint / "model.pt"
    before_call(monkeypatch, "stat", model.unlink, lambda name: name == b"model.pt")
    with pytest.raises(CheckpointChanged, match=r"model\.pt"):
        house.store.manifest(house.uri)


def test_a_file_on_the_way_means_that_nothing_is_there(house: House) -> None:
    with pytest.raises(CheckpointGone, match="no directory"):
        house.store.manifest(f"{house.uri}/model.pt/below")


def test_a_file_written_to_after_it_was_trashed_is_kept(house: House) -> None:
    with (house.checkpoint / "sub" / "state.bin").open("ab", buffering=0) as writer:
        manifest = house.evict()
        writer.write(b"!")
        with pytest.raises(CheckpointChanged, match=r"sub/state\.bin"):
            house.store.purge(CLAIM, manifest)
    assert house.store.restore(house.uri, CLAIM)
    assert (house.checkpoint / "sub" / "state.bin").read_bytes() == b"state!"
    assert (house.checkpoint / "model.pt").exists()


def test_a_file_rewritten_in_place_at_equal_size_is_another_version(house: House) -> None:
    manifest = house.store.manifest(house.uri)
    model = house.checkpoint / "model.pt"
    modified_ns = model.stat().st_mtime_ns
    with model.open("r+b") as file:
        file.write(b"WEIGHTS")
    os.utime(model, ns=(modified_ns, modified_ns + 1))
    with pytest.raises(CheckpointChanged, match=r"model\.pt"):
        house.store.trash(house.uri, CLAIM, manifest)


def test_what_changes_in_the_trash_during_a_purge_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    state = house.trashed / "sub" / "state.bin"
    before_call(monkeypatch, "unlink", lambda: state.write_bytes(b"longer than before"))
    with pytest.raises(CheckpointChanged, match=r"sub/state\.bin"):
        house.store.purge(CLAIM, manifest)
    assert state.read_bytes() == b"longer than before"


def test_what_arrives_in_the_trash_during_a_purge_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    new = house.trashed / "sub" / "new.pt"
    before_call(monkeypatch, "unlink", lambda: new.write_bytes(b"new"))
    with pytest.raises(CheckpointChanged):
        house.store.purge(CLAIM, manifest)
    assert new.read_bytes() == b"new"


def test_what_was_copied_to_another_disk_is_purged_from_its_trash(house: House) -> None:
    """A purge that was cut off goes on there: copies that keep times differ in nothing but their inodes."""
    (house.checkpoint / "link").symlink_to("model.pt")
    manifest = house.evict()
    shutil.move(house.root, house.root.with_name("old"))
    shutil.copytree(house.root.with_name("old"), house.root, symlinks=True)
    store = open_store(f"file://{house.root}")
    store.require_purgeable(CLAIM, manifest)
    store.purge(CLAIM, manifest)
    assert not store.trashed(CLAIM)


@pytest.mark.parametrize("name", ["model.pt", "link"])
def test_what_was_replaced_in_the_trash_is_kept(house: House, name: str) -> None:
    (house.checkpoint / "link").symlink_to("model.pt")
    manifest = house.evict()
    file = house.trashed / name
    was_link, modified_ns = file.is_symlink(), file.lstat().st_mtime_ns
    file.unlink()
    if was_link:
        file.touch()
    else:
        file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(modified_ns, modified_ns + (not was_link)))
    for refusing in (house.store.require_purgeable, house.store.purge):
        with pytest.raises(CheckpointChanged, match=name):
            refusing(CLAIM, manifest)
    assert (house.trashed / "sub" / "state.bin").exists()

"""A store is known by the mark at its root: no other place passes for it, under whatever name."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quota.bootstrap import Services, open_store
from quota.client import ExperimentHandle
from quota.domain.events import ExperimentRegistered, LimitSet, PolicyParameters
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.mark import parse_mark
from quota.errors import PathRefused, StateRefused, StoreError
from quota.services.stores import Stores
from quota.services.sweep_order import SweepOrder
from quota_local import open_store as open_local_store
from support import HandClock, create_schema, services_over
from sweeps import DAY, Killed, Sweeps, killing, refusing, silent, sweeps_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEEP = SweepOrder(PolicyParameters(policy="by_level"), timedelta(days=1))
AT_ONCE = SweepOrder(PolicyParameters(policy="by_level"), timedelta())


@contextmanager
def over(path: Path) -> Iterator[Services]:
    """Give services over a new database in `path`."""
    path.mkdir(parents=True)
    url = f"sqlite:///{path}/quota.db"
    create_schema(url)
    with services_over(url, HandClock(), open_store) as services:
        yield services


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with over(tmp_path / "database") as ready:
        yield ready


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def add(services: Services, root: Path, *, take_over: bool = False) -> None:
    services.administration.add_store(root.as_uri(), take_over=take_over)


def two_paused_trials(services: Services, root: Path) -> ExperimentHandle:
    handle = ExperimentHandle(services, "tuner", "x")
    handle.record(ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9))
    for trial_id in ("1", "2"):
        handle.trial_started(trial_id)
        checkpoint = root / trial_id
        checkpoint.mkdir()
        (checkpoint / "weights").write_bytes(b"w")
        handle.checkpoint_saved(trial_id, location=checkpoint, size_bytes=1, resource=1)
        handle.trial_paused(trial_id, level=1, metric=float(trial_id))
    services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=1, low=1))
    return handle


def states(services: Services) -> dict[str, str]:
    with services.database.read() as connection:
        state = services.projector.look(connection, "x")
    return {one.trial_id: one.state for one in state.checkpoints.values()}


def test_a_disk_that_is_not_mounted_loses_nothing(services: Services, root: Path, tmp_path: Path) -> None:
    add(services, root)
    handle = two_paused_trials(services, root)
    services.sweeper.sweep(["x"], KEEP)
    assert states(services) == {"1": "stored", "2": "trashed"}
    # What is left is the bare mount point.
    away = root.rename(tmp_path / "away")
    root.mkdir()
    services.administration.set_limit(LimitSet(scope="experiment:x", measure="checkpoints", high=1, low=1))
    handle.trial_started("3")
    report = services.sweeper.sweep(["x"], AT_ONCE)
    assert report.tally.evicted == report.tally.purged == 0
    (error,) = report.tally.errors
    assert "is its disk mounted?" in error
    assert states(services) == {"1": "stored", "2": "trashed"}
    loadable = handle.resume_trial("1", level=1)
    assert loadable is not None
    assert states(services)["1"] == "stored"
    root.rmdir()
    away.rename(root)
    assert handle.resume_trial("2", level=1) is not None
    assert (root / "2" / "weights").read_bytes() == b"w"


def test_a_trash_that_was_emptied_by_hand_needs_the_operators_word(services: Services, root: Path) -> None:
    add(services, root)
    two_paused_trials(services, root)
    services.sweeper.sweep(["x"], KEEP)
    shutil.rmtree(root / ".trash")
    assert services.sweeper.sweep(["x"], AT_ONCE).tally.purged == 0
    add(services, root)
    services.clock.now = lambda: HandClock().moment + timedelta(hours=1)  # type: ignore[method-assign]
    assert services.sweeper.sweep(["x"], AT_ONCE).tally.purged == 1


def test_a_store_is_added_once(services: Services, root: Path) -> None:
    add(services, root)
    (store,) = services.administration.look().stores.values()
    add(services, root)
    assert list(services.administration.look().stores.values()) == [store]
    with services.database.read() as connection:
        assert services.log.position(connection, DEPLOYMENT_STREAM) == 1


def test_a_store_that_was_removed_can_be_added_again(services: Services, root: Path) -> None:
    add(services, root)
    services.administration.remove_store(root.as_uri())
    assert services.administration.look().stores == {}
    add(services, root)
    assert list(services.administration.look().stores) == [root.as_uri()]


@pytest.mark.parametrize(("one", "other"), [("a", "a/b"), ("a/b", "a")])
def test_stores_do_not_overlap(services: Services, root: Path, one: str, other: str) -> None:
    (root / "a" / "b").mkdir(parents=True)
    add(services, root / one)
    with pytest.raises(StateRefused, match=f"it overlaps the store {(root / one).as_uri()}; one checkpoint would lie"):
        add(services, root / other)
    services.administration.remove_store((root / one).as_uri())
    add(services, root / other)


@pytest.mark.parametrize("place", ["disk", ""])
def test_a_place_that_holds_a_store_is_no_checkpoint(services: Services, root: Path, place: str) -> None:
    add(services, root)
    handle = two_paused_trials(services, root)
    handle.trial_started("3")
    whole = root.parent / place
    with pytest.raises(PathRefused, match=f"it is or holds the store {root.as_uri()}"):
        handle.checkpoint_saved("3", location=whole, size_bytes=1, resource=1)
    handle.checkpoint_saved("3", location=root / "beside", size_bytes=1, resource=1)
    services.administration.remove_store(root.as_uri())
    with pytest.raises(StateRefused, match="it overlaps"):
        handle.checkpoint_saved("3", location=whole, size_bytes=1, resource=1)
    handle.checkpoint_saved("3", location=f"{root}-2", size_bytes=1, resource=1)


@pytest.mark.parametrize("below", ["", "deep"])
def test_a_place_in_a_checkpoint_is_no_store(services: Services, root: Path, below: str) -> None:
    (root / "deep").mkdir()
    other = root.parent / "other"
    other.mkdir()
    handle = two_paused_trials(services, other)
    handle.trial_started("3")
    handle.checkpoint_saved("3", location=root, size_bytes=1, resource=1)
    with pytest.raises(
        StateRefused, match=f"it is, or lies in, {root.as_uri()}/, which trial 3 of experiment x report"
    ):
        add(services, root / below)
    assert not services.administration.look().stores
    add(services, other)


@pytest.mark.parametrize("below", ["", "/deep"])
def test_a_store_under_another_name_is_refused(services: Services, root: Path, tmp_path: Path, below: str) -> None:
    (root / "deep").mkdir()
    add(services, root)
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(StateRefused, match=f"is, or lies in, the store {root.as_uri()} under another name; use that"):
        services.administration.add_store(f"{(tmp_path / 'link').as_uri()}{below}")


def test_a_store_above_another_under_another_name_leaves_its_checkpoints_alone(
    services: Services, root: Path, tmp_path: Path
) -> None:
    (root / "deep" / "1").mkdir(parents=True)
    add(services, root / "deep")
    (tmp_path / "link").symlink_to(root)
    link = (tmp_path / "link").as_uri()
    services.administration.add_store(link)
    with pytest.raises(PathRefused, match="so it is another store's root; no checkpoint lies in two stores"):
        open_store(link).manifest(f"{link}/deep/1")
    with pytest.raises(PathRefused, match="so it is another store's root"):
        open_store(link).manifest(f"{link}/deep")


@pytest.mark.parametrize("below", ["", "deep"])
def test_a_place_of_another_database_is_taken_over_by_those_words_only(
    services: Services, root: Path, tmp_path: Path, below: str
) -> None:
    (root / "deep").mkdir()
    with over(tmp_path / "other") as others:
        add(others, root)
        with pytest.raises(StateRefused, match="two databases must not manage one place"):
            add(services, root / below)
        assert services.administration.look().stores == {}
        add(services, root / below, take_over=True)
        if below:
            return
        handle = two_paused_trials(others, root)
        report = others.sweeper.sweep(["x"], KEEP)
        assert (report.tally.evicted, states(others)) == (0, {"1": "stored", "2": "stored"})
        assert handle.resume_trial("2", level=1) is not None


def test_a_mark_that_cannot_be_written_leaves_no_store(services: Services, root: Path) -> None:
    (root / ".trash").write_text("in the way")
    with pytest.raises(PathRefused, match="it is no directory; move it away"):
        add(services, root)
    assert services.administration.look().stores == {}


@pytest.mark.parametrize("damage", ["emptied", "a link", "a directory"])
def test_a_damaged_mark_is_no_mark(root: Path, damage: str, tmp_path: Path) -> None:
    store = open_local_store(root.as_uri())
    store.mark("019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10")
    mark = root / ".trash" / ".store"
    if damage == "emptied":
        mark.write_text("")
        assert store.marks().own == ""
        return
    mark.rename(tmp_path / "mark")
    if damage == "a link":
        mark.symlink_to(tmp_path / "mark")
        assert store.marks().own is None
    else:
        mark.mkdir()
        with pytest.raises(StoreError, match="cannot read the store's mark"):
            store.marks()


@pytest.fixture
def bind_mount() -> Iterator[Callable[[Path, Path], None]]:
    """Mount a directory in a second place, as containers do."""
    points: list[Path] = []

    def mount(source: Path, point: Path) -> None:
        point.mkdir()
        if subprocess.run(["mount", "--bind", source, point], check=False).returncode:  # noqa: S607 - the system's own
            pytest.skip("this user may not mount; tests/unit/test_mounts.py does without")
        points.append(point)

    yield mount
    for point in reversed(points):
        subprocess.run(["umount", point], check=True)  # noqa: S607 - the system's own


def test_a_store_seen_through_a_bind_mount_is_known(
    services: Services, root: Path, tmp_path: Path, bind_mount: Callable[[Path, Path], None]
) -> None:
    (root / "sub dir").mkdir()
    add(services, root)
    for name, source in (("same", root), ("below", root / "sub dir")):
        bind_mount(source, tmp_path / name)
        with pytest.raises(StateRefused, match=f"is, or lies in, the store {root.as_uri()} under another name"):
            add(services, tmp_path / name)
        with over(tmp_path / f"other {name}") as others, pytest.raises(StateRefused, match="of another database"):
            add(others, tmp_path / name)


def test_a_disk_that_is_swapped_during_a_sweep_loses_nothing(services: Services, root: Path) -> None:
    add(services, root)
    two_paused_trials(services, root)
    opened = open_store(root.as_uri())
    stores = Stores(services.administration.look(), lambda _: opened)
    assert stores.at(root.as_uri()) is opened
    opened.mark("019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10")
    with pytest.raises(StoreError, match="is its disk mounted"):
        stores.at(root.as_uri())


def test_another_user_may_look_up_the_mark_and_list_nothing(services: Services, root: Path) -> None:
    add(services, root)
    assert (root / ".trash").stat().st_mode & 0o777 == 0o711
    assert (root / ".trash" / ".store").stat().st_mode & 0o777 == 0o644


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        yield ready


@pytest.mark.parametrize("step", ["before mark", "after mark"])
def test_a_sweep_that_is_killed_while_it_marks_its_store_locks_nobody_out(sweeps: Sweeps, step: str) -> None:
    sweeps.prepare(3, high=2, low=2)
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    sweeps.wait(DAY)
    sweeps.limit("experiments", 1, 1)
    assert sweeps.sweep(AT_ONCE).tally.purged == 2
    sweeps.check_settled()


def test_a_sweep_marks_a_store_once_if_it_takes_anything_out_of_it(sweeps: Sweeps) -> None:
    sweeps.prepare(4, high=9, low=9)
    marks: list[str] = []
    sweeps.store.hook = lambda step, text: marks.extend([text] * (step == "before mark"))
    sweeps.sweep()
    assert marks == []
    sweeps.limit("experiments", 1, 1)
    assert sweeps.sweep().tally.evicted == 3
    assert sweeps.sweep(AT_ONCE).tally.purged == 3
    generations = [parse_mark(text).generation for text in marks]
    started = [event.position for event in sweeps.events(DEPLOYMENT_STREAM) if event.payload.TYPE == "sweep_started"]
    assert generations == started
    sweeps.resume("1")
    assert sweeps.sweep(AT_ONCE).sweep_id is None
    assert len(marks) == 2


def test_a_store_that_cannot_be_marked_loses_nothing(sweeps: Sweeps) -> None:
    sweeps.prepare(2, high=1, low=1)
    sweeps.store.hook = refusing("before mark")
    assert sweeps.sweep(AT_ONCE).tally.evicted == 0
    sweeps.check_settled()
    sweeps.store.hook = silent
    sweeps.wait(DAY)
    assert sweeps.sweep(AT_ONCE).tally.purged == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_marked_in_place(root: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store = open_local_store(root.as_uri())
    store.mark("first, and longer than the second")
    opened = os.open

    def full(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code), path)
        return opened(path, flags, mode, dir_fd=dir_fd)  # type: ignore[arg-type] - as it came

    monkeypatch.setattr(os, "open", full)
    store.mark("second")
    assert store.own_mark() == "second"
    (root / ".trash" / ".store").unlink()
    with pytest.raises(StoreError, match=os.strerror(code)):
        store.mark("third")
    assert store.own_mark() is None


def test_a_mark_is_readable_for_others_whatever_its_writer_hides(root: Path) -> None:
    store = open_local_store(root.as_uri())
    before = os.umask(0o077)
    try:
        store.mark("first")
        (root / ".trash" / ".store-new").write_text("left by a process that was killed")
        store.mark("second")
    finally:
        os.umask(before)
    assert (root / ".trash" / ".store").stat().st_mode & 0o777 == 0o644
    assert store.own_mark() == "second"


def test_what_is_left_of_a_longer_mark_is_no_part_of_it(root: Path) -> None:
    """A process may be killed between writing over a mark and cutting it off."""
    store = open_store(root.as_uri())
    store.mark("a-mark-with-a-generation 12 abcdef")
    mark = root / ".trash" / ".store"
    mark.write_bytes(b"short\n" + mark.read_bytes()[6:])
    assert store.own_mark() == "short"

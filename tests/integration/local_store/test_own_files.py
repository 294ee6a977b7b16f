"""The database's own files: no store lists, moves or deletes them, whatever name they are reached by."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from integration.local_store.house import CLAIM, House, key, succeeds
from quota.bootstrap import Services, open_store
from quota.client import ExperimentHandle
from quota.domain.events import ExperimentRegistered, LimitSet, PolicyParameters
from quota.errors import CheckpointChanged, PathRefused
from quota.ports import SparingStore
from quota.services.administration import Administration
from quota.services.sweep_order import SweepOrder
from quota.testing.memory_store import MemoryStore
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT_ONCE = SweepOrder(PolicyParameters(policy="by_level"), timedelta())
COMPANIONS = ("", "-wal", "-shm", "-journal", "-turn")
WHAT = "the database's own file"


def nothing(_administration: Administration, _uri: str) -> None:
    """Stand for the check of an earlier version, which looked at names alone."""


def refuses(house: House) -> None:
    with pytest.raises(PathRefused, match=f"it is {WHAT}; keep it apart from checkpoints"):
        house.store.manifest(house.uri)


@contextmanager
def over(database: Path) -> Iterator[Services]:
    """Give services over a new database."""
    create_schema(f"sqlite:///{database}")
    with services_over(f"sqlite:///{database}", HandClock(), open_store) as services:
        yield services


def two_paused_trials(services: Services, worse: str, better: str) -> ExperimentHandle:
    """Let one trial too many be paused: the one whose checkpoint lies at `worse` is to go first."""
    handle = ExperimentHandle(services, "tuner", "x")
    handle.record(ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9))
    for trial_id, uri in (("1", better), ("2", worse)):
        handle.trial_started(trial_id)
        handle.checkpoint_saved(trial_id, location=uri, size_bytes=1, resource=1)
        handle.trial_paused(trial_id, level=1, metric=float(trial_id))
    services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=1, low=1))
    return handle


@pytest.mark.parametrize("below", ["db", *(f"db/quota.db{suffix}" for suffix in COMPANIONS)])
def test_a_sweep_keeps_the_database_that_lies_below_a_root_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    disk, link = tmp_path / "disk", tmp_path / "link"
    (disk / "db").mkdir(parents=True)
    (disk / "good").mkdir()
    link.symlink_to(disk)
    monkeypatch.setattr(Administration, "_refuse_own_database", nothing)
    with over(disk / "db" / "quota.db") as services:
        (disk / "db" / "quota.db-journal").touch()
        services.administration.add_store(link.as_uri())
        handle = two_paused_trials(services, f"{link.as_uri()}/{below}", f"{link.as_uri()}/good")
        files = {name: key(disk / "db" / f"quota.db{name}") for name in COMPANIONS}
        report = services.sweeper.sweep(["x"], AT_ONCE)
        assert WHAT in " ".join(report.tally.errors), report
        assert {name: key(disk / "db" / f"quota.db{name}") for name in COMPANIONS} == files
        assert [path.name for path in (disk / ".trash").iterdir()] == [".store"]
        assert handle.trial_stopped("2").position > 0


def test_stores_are_told_of_the_database_by_whoever_opens_them(tmp_path: Path) -> None:
    (tmp_path / "disk" / "1").mkdir(parents=True)
    with over(tmp_path / "quota.db") as services:
        (tmp_path / "disk" / "1" / "model.pt").hardlink_to(tmp_path / "quota.db")
        services.administration.add_store((tmp_path / "disk").as_uri())
        (tmp_path / "disk" / "2").mkdir()
        two_paused_trials(services, (tmp_path / "disk" / "1").as_uri(), (tmp_path / "disk" / "2").as_uri())
        services.sweeper.sweep(["x"], AT_ONCE)
        assert (tmp_path / "disk" / "1" / "model.pt").samefile(tmp_path / "quota.db")


@pytest.mark.parametrize("kind", ["the file", "a hard link", "a link that the name is", "a single file"])
def test_a_checkpoint_that_holds_a_spared_file(house: House, tmp_path: Path, kind: str) -> None:
    spared = house.checkpoint / "sub" / "state.bin"
    match kind:
        case "a hard link":
            spared = tmp_path / "elsewhere"
            spared.hardlink_to(house.checkpoint / "model.pt")
        case "a link that the name is":
            spared = house.checkpoint / "sub" / "link"
            (tmp_path / "elsewhere").touch()
            spared.symlink_to(tmp_path / "elsewhere")
        case "a single file":
            house = house._replace(uri=f"{house.uri}/sub/state.bin")
    manifest = house.store.manifest(house.uri)
    house.store.spare({spared: WHAT})
    refuses(house)
    with pytest.raises(PathRefused, match=f"it is {WHAT}"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert spared.lstat()
    assert not house.store.trashed(CLAIM)


def test_a_spared_file_in_the_trash_is_kept_with_all_that_lies_beside_it(house: House) -> None:
    manifest = house.evict()
    spared = house.trashed / "sub" / "state.bin"
    house.store.spare({spared: WHAT})
    with pytest.raises(CheckpointChanged, match=f"it is {WHAT}.*; it is kept"):
        house.store.purge(CLAIM, manifest)
    assert (spared.read_bytes(), (house.trashed / "model.pt").read_bytes()) == (b"state", b"weights")
    assert house.store.restore(house.uri, CLAIM)


def test_a_spared_file_that_comes_and_goes(house: House, tmp_path: Path) -> None:
    spared = house.checkpoint / "quota.db-wal"
    house.store.spare({spared: WHAT, tmp_path / "nowhere" / "quota.db": WHAT})
    before = house.store.manifest(house.uri)
    spared.touch()
    refuses(house)
    spared.unlink()
    assert house.store.manifest(house.uri).entries == before.entries


def test_a_spared_file_below_a_mount_of_another_name(house: House, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    if not succeeds("mount", "--bind", str(house.checkpoint), str(other)):
        pytest.skip("this user may not mount")
    try:
        house.store.spare({other / "model.pt": WHAT})
        refuses(house)
    finally:
        assert succeeds("umount", "--lazy", str(other))


def test_a_store_that_lies_on_no_disk_need_spare_nothing() -> None:
    assert not isinstance(MemoryStore(), SparingStore)

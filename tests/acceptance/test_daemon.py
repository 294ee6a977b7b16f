"""The daemon as operators run it: real processes, which are told to end, killed or frozen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

import quota
from quota.bootstrap import services
from quota.domain.events import LimitSet
from quota.eventlog.database import Database
from quota.projections.storage import projected_position
from quota.services.migrating import upgrade
from quota.services.querying import INVENTORY
from support import tamper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from quota.bootstrap import Services

FAST = ("--sweep-schedule", "1s", "--purge-schedule", "1s", "--catch-up-schedule", "1s", "--trash-retention", "0")
LEASE_TERM = "2s"


@dataclass
class Running:
    """A daemon, and what it has said."""

    process: subprocess.Popen[str]

    def hear(self, part: str) -> dict[str, Any]:
        """Wait until it says something with `part` in it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            said: dict[str, Any] = json.loads(line)
            if part in said["message"]:
                return said
        raise AssertionError(f"it ended with {self.process.wait()} and never said {part!r}")

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextmanager
def daemon(url: str, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "quota.cli", "run", "--database", url, "--log-format", "json", *FAST, *options]
    environment = {**os.environ, "QUOTA_LEASE_TERM": LEASE_TERM}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


@dataclass
class House:
    """A database, a store with paused trials in it, and a limit."""

    url: str
    root: Path
    services: Services

    def pause(self, *trial_ids: str) -> None:
        with quota.connect(self.url) as db:
            experiment = db.register_experiment(
                "x", mode="min", rung_levels=[1, 3], promotion_quantiles=[0.5, 0.5], max_resource=9
            )
            for trial_id in trial_ids:
                place = self.root / trial_id
                place.mkdir()
                (place / "weights").write_bytes(b"w" * 10)
                experiment.trial_started(trial_id)
                experiment.checkpoint_saved(trial_id, location=place, size_bytes=10, resource=1)
                experiment.trial_paused(trial_id, level=1, metric=float(trial_id))

    def left(self) -> set[str]:
        return {place.name for place in self.root.iterdir()} - {".trash"}

    def decided(self) -> list[str]:
        rows = self.services.queries.evictions(None, None, 1_000)
        return [row["trial_id"] for row in rows]


@contextmanager
def house_over(database_url: str, tmp_path: Path) -> Iterator[House]:
    root = tmp_path / "store"
    root.mkdir()
    database = Database(database_url)
    upgrade(database)
    database.close()
    with services(database_url, "operator") as opened:
        opened.administration.add_store(f"file://{root}")
        opened.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=2, low=2))
        yield House(database_url, root, opened)


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    with house_over(database_url, tmp_path) as ready:
        yield ready


def test_told_twice_it_ends_at_once(postgresql_url: str, tmp_path: Path) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with house_over(postgresql_url, tmp_path) as house:
        house.pause("1", "2", "3")
        with house.services.log.locked(["x"]) as streams, daemon(house.url, "--log-level", "info") as running:
            while not streams["x"].connection.execute(waiting).scalar():
                assert running.process.poll() is None
            running.tell(signal.SIGTERM)
            running.hear("told again, it ends at once")
            running.tell(signal.SIGTERM)
            assert running.process.wait() == 128 + signal.SIGTERM


def test_it_sweeps_until_it_is_told_to_end(house: House) -> None:
    house.pause("1", "2", "3")
    with daemon(house.url) as running:
        assert running.hear("sweep ")["evicted"] == 1
        assert house.left() == {"1", "2"}
        (heartbeat,) = house.services.heartbeats.look()
        assert not heartbeat.is_silent
        house.pause("4")
        assert running.hear("sweep ")["purged"] == 1
        running.tell(signal.SIGTERM)
        running.hear("ended")
        assert running.process.wait() == 0
    assert house.left() == {"1", "2"}
    assert house.services.heartbeats.look() == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_another_takes_over_from_one_that_is_killed_or_frozen(house: House, how: signal.Signals) -> None:
    house.pause("1", "2", "3")
    with ExitStack() as stack:
        first = stack.enter_context(daemon(house.url))
        first.hear("sweep ")
        second = stack.enter_context(daemon(house.url))
        second.hear("started")
        # Whoever is frozen while it writes to SQLite keeps all others from writing, and an error says so.
        with house.services.database.write():
            first.tell(how)
        house.pause("4")
        assert second.hear("sweep ")["evicted"] == 1
        if how is signal.SIGSTOP:
            first.tell(signal.SIGCONT)
        else:
            first.process.wait()
            assert [one.is_silent for one in house.services.heartbeats.look()] == [True, False]
        house.pause("5")
        for one in [second] if how is signal.SIGKILL else [first, second]:
            one.tell(signal.SIGTERM)
            one.hear("ended")
            assert one.process.wait() == 0
    with daemon(house.url) as third:
        third.hear("started")
        third.tell(signal.SIGTERM)
        third.hear("ended")
    house.services.queries.catch_up(["x"])
    stored = house.services.queries.ask(INVENTORY, experiment_id="x")
    assert house.left() == {row["trial_id"] for row in stored if row["state"] == "stored"}
    assert len(house.decided()) == len(set(house.decided()))


def test_a_job_that_fails_is_said_and_tried_again(house: House) -> None:
    house.pause("1", "2", "3")
    (house.root / ".trash" / ".store").unlink()
    with daemon(house.url) as running:
        assert "has no mark" in running.hear("has no mark")["message"]
        house.services.administration.add_store(f"file://{house.root}")
        assert running.hear("evicted 1")["level"] == "INFO"
        running.tell(signal.SIGINT)
        running.hear("ended")


def test_an_experiment_that_cannot_be_caught_up_keeps_no_other_from_it(house: House) -> None:
    house.pause("1")
    with quota.connect(house.url) as db:
        db.register_experiment("a", mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=3)
    tamper(house.services, ["UPDATE events SET type = 'nonsense' WHERE experiment_id = 'a'"])
    never = [part for job in ("sweep", "purge", "reconcile") for part in (f"--{job}-schedule", "0 0 1 1 *")]
    with daemon(house.url, *never) as running:
        said = running.hear("unknown to this software")["message"]
        assert said.startswith("experiment a is not up to date: event 1 of a: ")
        with house.services.database.read() as connection:
            assert projected_position(connection, "x") == 4
        running.tell(signal.SIGTERM)
        running.hear("ended")


def test_a_schedule_that_cannot_be_read_is_refused(house: House) -> None:
    command = [sys.executable, "-m", "quota.cli", "run", "--database", house.url, "--sweep-schedule", "soon"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "field `sweep_schedule` is 'soon'" in ended.stderr


def test_what_is_missing_is_found_by_itself(house: House) -> None:
    house.pause("1", "2")
    shutil.rmtree(house.root / "1")
    with daemon(house.url, "--reconcile-schedule", "1s") as running:
        assert running.hear("is missing")["message"].endswith("/store/1 is missing")
        running.tell(signal.SIGTERM)
        running.hear("ended")

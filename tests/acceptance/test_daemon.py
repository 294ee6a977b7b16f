"""The daemon as operators run it: a real process, which is told to end, or finds its store out of order."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

import quota
from acceptance.daemons import daemon
from quota.projections.storage import projected_position
from support import tamper

if TYPE_CHECKING:
    from acceptance.daemons import House


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_told_twice_it_ends_at_once(house: House) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
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
        running.end()
    assert house.left() == {"1", "2"}
    assert house.services.heartbeats.look() == []


def test_a_job_that_fails_is_said_and_tried_again(house: House) -> None:
    house.pause("1", "2", "3")
    (house.root / ".trash" / ".store").unlink()
    with daemon(house.url) as running:
        assert "has no mark" in running.hear("has no mark")["message"]
        house.services.administration.add_store(f"file://{house.root}")
        assert running.hear("evicted 1")["level"] == "INFO"
        running.tell(signal.SIGINT)
        running.hear("ended")
        assert running.ended() == 0


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
        running.end()


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
        running.end()

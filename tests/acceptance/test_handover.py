"""Two daemons on one database: where one is killed or frozen in the middle of its work, the other goes on."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from acceptance.daemons import LEASE_TERM, Hold, House, Running, daemon, freeze
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.eventlog.tables import leases
from quota.services.fencing import SWEEP_LEASE
from quota.services.querying import INVENTORY

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Handover:
    """The active one of two daemons came to an end, or to a stop.

    Attributes:
        first: That one.
        second: The other one.
        stopped_at: When that was, by the database's clock.
        expires_at: Until when its lease held.
        events_before: How many events the streams had by then.
    """

    house: House
    first: Running
    second: Running
    stopped_at: datetime
    expires_at: datetime
    events_before: dict[str, int]

    def taken_over_at(self) -> datetime:
        """Return when something was first recorded since, by the database's clock."""
        since = {stream: self.house.events(stream)[before:] for stream, before in self.events_before.items()}
        return min(event.recorded_at for events in since.values() for event in events)

    def check_time(self, free_from: datetime) -> None:
        """Check that the second one took over the first time that it tried after the lease was free."""
        # What it began to try before, it may say later.
        assert len([time for time in self.second.said_at("sweep skipped") if time > free_from]) <= 1
        assert self.expires_at <= self.stopped_at + LEASE_TERM


def expires_at(house: House) -> datetime:
    """Return until when the sweep's lease holds that was last renewed; it may be over by now."""
    with house.services.database.read() as connection:
        expiry: datetime = connection.execute(
            select(leases.c.expires_at).where(leases.c.name == SWEEP_LEASE)
        ).scalar_one()
    return expiry


@contextmanager
def stopped(house: House, hold: Hold, held_in: str, how: signal.Signals) -> Iterator[Handover]:
    """Run two daemons, and kill or freeze the one that sweeps in the middle of a call of its store."""
    variables = {**hold.environment(held_in), "QUOTA_LOG_LEVEL": "debug"}
    with daemon(house.url, **variables) as one, daemon(house.url, **variables) as other:
        for running in (one, other):
            running.hear("started")
        house.pause("1", "2", "3")
        first, second = (one, other) if hold.wait() == one.process.pid else (other, one)
        before = {stream: len(house.events(stream)) for stream in ("x", DEPLOYMENT_STREAM)}
        if how is signal.SIGSTOP:
            freeze(house, first)
        else:
            first.tell(how)
            first.ended()
        yield Handover(house, first, second, house.now(), expires_at(house), before)


def check_once(house: House, hold: Hold) -> None:
    """Check that nothing was decided or deleted twice, and that the disk has what the database says."""
    decided = [(one.uri, one.checkpoint_position) for one in house.of_type("eviction_decided")]
    assert len(decided) == len(set(decided))
    purged = [one.decision_id for one in house.of_type("checkpoint_purged")]
    assert sorted(purged) == sorted(one.decision_id for one in house.of_type("eviction_decided"))
    names = ("weights", "optimizer")
    assert sorted(hold.deleted()) == sorted(f"{one} {name.encode()!r}" for one in purged for name in names)
    house.services.queries.catch_up(["x"])
    stored = house.services.queries.ask(INVENTORY, experiment_id="x")
    assert house.left() == {row["trial_id"] for row in stored if row["state"] == "stored"}
    assert len(house.left()) == 2


@pytest.mark.parametrize("held_in", ["trash", "purge"])
def test_another_takes_over_from_one_that_is_killed_in_the_middle_of_a_sweep(
    house: House, hold: Hold, held_in: str
) -> None:
    with stopped(house, hold, held_in, signal.SIGKILL) as handover:
        assert handover.second.hear("purged 1")["failed"] == 0
        # Whoever works on the same host sees that it is gone, and does not wait for the lease to expire.
        handover.check_time(handover.stopped_at)
        assert {one.is_silent for one in house.services.heartbeats.look()} == {True, False}
        handover.second.end()
        check_once(house, hold)


def check_frozen(house: House, hold: Hold, held_in: str) -> None:
    """Freeze the active daemon, let the other one take over and go on, and wake the first one up."""
    with stopped(house, hold, held_in, signal.SIGSTOP) as handover:
        assert handover.second.hear("purged 1")["failed"] == 0
        assert handover.taken_over_at() >= handover.expires_at
        handover.check_time(handover.expires_at)
        house.pause("4")
        assert handover.second.hear("evicted 1")["failed"] == 0
        handover.first.tell(signal.SIGCONT)
        hold.release()
        handover.first.hear("sweep failed: ")
        for one in (handover.first, handover.second):
            one.end()
        check_once(house, hold)


def test_another_takes_over_from_one_that_is_frozen_while_it_deletes(house: House, hold: Hold) -> None:
    check_frozen(house, hold, "purge")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_another_takes_over_from_one_that_is_frozen_in_a_transaction(house: House, hold: Hold) -> None:
    # On SQLite such a one keeps all others from writing, until it is woken or killed.
    check_frozen(house, hold, "trash")


def test_one_that_is_told_to_end_does_the_batch_in_hand_and_the_next_one_the_rest(house: House, hold: Hold) -> None:
    trial_ids = [str(number) for number in range(1, 41)]
    house.pause(*trial_ids)
    with daemon(house.url, **hold.environment("trash")) as first:
        hold.wait()
        first.tell(signal.SIGTERM)
        first.hear("ends after the batch in hand")
        hold.release()
        first.hear("ended")
        assert first.ended() == 0
    decided, trashed = house.of_type("eviction_decided"), house.of_type("checkpoint_trashed")
    assert (len(decided), len(trashed)) == (38, 32)
    assert house.of_type("purge_decided") == []
    assert len(house.left()) == 8
    with daemon(house.url, **hold.environment()) as second:
        assert second.hear("sweep ")["purged"] == 38
        second.end()
    assert house.of_type("eviction_decided") == decided
    check_once(house, hold)

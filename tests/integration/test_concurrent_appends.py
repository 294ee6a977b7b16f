"""Four processes append to the same stream and to streams of their own, and some are killed on the way."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

import append_worker
from quota.client import ExperimentHandle
from quota.domain.events import ExperimentRegistered, NewEvent
from quota.errors import IdentityRefused
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog, Prepared
from quota.eventlog.tables import events
from quota.eventlog.verifying import Fault
from quota.services.auditing import Auditor
from quota.services.ids import new_id
from quota.testing.memory_store import MemoryStore
from support import HandClock, create_schema, services_over

BATCHES = 60
SHARED = "shared"
WORKERS = ("w0", "w1", "w2", "w3")
KILLED_AFTER = {"w0": [5, 31], "w2": [17]}
"""After how many acknowledged batches a worker gets SIGKILL: in the middle of whatever it does then."""


@dataclass
class Worker:
    """A worker's process, started anew after each kill."""

    url: str
    name: str
    acknowledged: int = 0
    kills: list[int] = field(default_factory=list)
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.kills = list(KILLED_AFTER.get(self.name, []))
        self.start()

    def start(self) -> None:
        arguments = [self.url, self.name, str(self.acknowledged), str(BATCHES), SHARED, f"own-{self.name}"]
        roots = [Path(append_worker.__file__).parent, *map(Path, sys.path)]
        self.process = subprocess.Popen(
            [sys.executable, append_worker.__file__, *arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots))},
        )

    def hear(self) -> bool:
        """Read one acknowledgement, and kill the worker where it is due; False at the end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            return False
        assert int(line) == self.acknowledged
        self.acknowledged += 1
        if self.kills and self.acknowledged == self.kills[0]:
            self.kills.pop(0)
            self.process.kill()
            self.take_last_words()
            self.start()
        return True

    def take_last_words(self) -> None:
        """What was acknowledged before the kill is acknowledged."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):
                self.acknowledged = int(line) + 1
        self.process.stdout.close()
        assert self.process.wait() == -9


def run_workers(url: str) -> list[Worker]:
    workers = [Worker(url, name) for name in WORKERS]
    listening = list(workers)
    while listening:
        with selectors.DefaultSelector() as selector:
            for worker in listening:
                assert worker.process.stdout is not None
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            ready = [key.data for key, _ in selector.select()]
        for worker in ready:
            if not worker.hear():
                listening.remove(worker)
    return workers


def test_no_gap_no_duplicate_nothing_lost(database_url: str) -> None:
    create_schema(database_url)
    experiments = [SHARED, *(f"own-{name}" for name in WORKERS)]
    with services_over(database_url, HandClock(), MemoryStore) as services:
        for experiment_id in experiments:
            handle = ExperimentHandle(services, "tester", experiment_id)
            handle.record(
                ExperimentRegistered(mode="min", rung_levels=(1, 3), promotion_quantiles=(0.5, 0.5), max_resource=99)
            )
            for name in WORKERS:
                handle.trial_started(name)
        workers = run_workers(database_url)
        for worker in workers:
            assert worker.process.stdout is not None
            worker.process.stdout.close()
            assert worker.process.wait() == 0
            assert worker.acknowledged == BATCHES
            assert worker.kills == []

        sent = {
            new.event_id: new
            for name in WORKERS
            for number in range(BATCHES)
            for new in append_worker.batch_of(name, number, [SHARED, f"own-{name}"])
        }
        with services.database.read() as connection:
            rows = connection.execute(select(events).order_by(events.c.experiment_id, events.c.position)).all()
        stored = [row for row in rows if row.type == "trial_reported"]
        assert sorted(row.event_id for row in stored) == sorted(sent)
        assert all(row.experiment_id == sent[row.event_id].experiment_id for row in stored)
        for experiment_id in experiments:
            positions = [row.position for row in rows if row.experiment_id == experiment_id]
            assert positions == list(range(1, len(positions) + 1))
        for name in WORKERS:
            order = [row.event_id for row in stored if row.actor == name and row.experiment_id == SHARED]
            assert order == [new.event_id for new in sent.values() if new.actor == name and new.experiment_id == SHARED]
        assert [services.auditor.verify(head, lambda _: None) for head in services.auditor.heads()] == [None] * 5
        services.queries.catch_up(experiments)
        assert [list(services.rebuilder.verify(one, lambda _: None)) for one in experiments] == [[]] * 5


def test_refused_batch_leaves_no_trace(database_url: str) -> None:
    create_schema(database_url)
    with services_over(database_url, HandClock(), MemoryStore) as services:
        handle = ExperimentHandle(services, "tester", SHARED)
        handle.record(ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=99))
        handle.trial_started("w0")
        batch = append_worker.batch_of("w0", 6, [SHARED, "unknown"])
        with pytest.raises(Exception, match="no such experiment; register it first"):
            services.recorder.append(batch)
        assert services.recorder.append(batch[:1])[0].position == 3
        with services.database.read() as connection:
            assert services.log.position(connection, "unknown") == 0
            assert services.log.position(connection, SHARED) == 3


def test_one_id_in_two_streams_at_the_same_moment(postgresql_url: str) -> None:
    """On SQLite no two writers are ever this far at once. Here both are stored, and the audit tells of it."""
    create_schema(postgresql_url)
    payload = ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9)
    envelope = {"event_id": new_id(), "occurred_at": HandClock().moment, "actor": "tuner", "payload": payload}
    one, other = (Prepared.of(NewEvent(experiment_id=name, **envelope)) for name in ("one", "other"))

    def append(log: EventLog, prepared: Prepared) -> None:
        with log.locked([prepared.event.experiment_id]) as streams:
            (stream,) = streams.values()
            assert log.stored_before(stream.connection, [prepared]) == {}
            log.add(stream, prepared)
            log.flush(stream)

    with closing(Database(postgresql_url)) as database, ThreadPoolExecutor(1) as pool:
        log, auditor = EventLog(database), Auditor(database, EventLog(database))
        with log.locked(["one"]) as streams:
            log.add(streams["one"], one)
            log.flush(streams["one"])
            pool.submit(append, log, other).result()
        reason = f"another stream has an event of the same id, {envelope['event_id']}"
        assert auditor.shared_ids() == [Fault("one", 1, reason), Fault("other", 1, reason)]
        assert [auditor.verify(head, lambda _: None) for head in auditor.heads()] == [None, None]
        # Each may be sent again; whoever is not that early is refused, as ever.
        for sent in (one, other):
            with log.locked([sent.event.experiment_id]) as streams:
                (stream,) = streams.values()
                assert log.stored_before(stream.connection, [sent])[sent.event.event_id].stored_before
        third = Prepared.of(NewEvent(experiment_id="third", **envelope))
        with log.locked(["third"]) as streams, pytest.raises(IdentityRefused, match="stands for another event already"):
            log.stored_before(streams["third"].connection, [third])

"""Proof that something is refused: by class and message, with nothing of its batch kept."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from quota.client import ExperimentHandle
from quota.domain.events import Event, NewEvent, TrialReported
from quota.errors import BadInput
from quota.services.ids import new_id
from quota.services.ingesting import IngestReport, ingest, parse_line
from quota.testing.memory_store import MemoryStore
from support import START, HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from quota.bootstrap import Services

EXPERIMENT = "one"
REGISTRATION: dict[str, Any] = {
    "mode": "min",
    "rung_levels": [1, 3],
    "promotion_quantiles": [0.5, 0.5],
    "max_resource": 9,
}
GOOD = TrialReported(trial_id="7", resource=1, metric=0.5)


def line(kind: str, data: object, **changes: object) -> bytes:
    """Give an event as one line of the wire form, with a new id."""
    event: dict[str, object] = {
        "event_id": new_id(),
        "experiment_id": EXPERIMENT,
        "type": kind,
        "occurred_at": START.isoformat(),
        "data": data,
    }
    return json.dumps(event | changes).encode()


def raw_line(kind: str, data: str) -> bytes:
    """Give an event whose data is this very text."""
    return line(kind, "DATA").replace(b'"DATA"', data.encode())


def refused(kind: type[Exception], action: Callable[[], object], *said: str) -> None:
    """Expect that `action` is refused, with a message of one line that says all of `said`."""
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert message.isprintable(), ascii(message)
    assert [part for part in said if part not in message] == [], message


def refused_line(kind: type[BadInput], sent: bytes, *said: str) -> None:
    """Expect that a line is refused before any database is asked, named by its number."""
    refused(kind, lambda: parse_line(sent, 7, "tester"), "line 7", *said)


class Trial7:
    """Trial 7 of experiment `one`, which runs; its checkpoints lie in a store in memory."""

    def __init__(self, services: Services, clock: HandClock, store: MemoryStore) -> None:
        self.services = services
        self.clock = clock
        self.store = store
        self.handle = ExperimentHandle(services, "tester", EXPERIMENT)

    def ingest(self, *lines: bytes) -> IngestReport:
        """Ingest lines as one batch, and say what came of them."""
        return list(ingest(lines, self.services.recorder, "tester"))[-1]

    def stored(self) -> int:
        """Count what the log holds."""
        return int(self.rows("SELECT count(*) FROM events")[0][0])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the database, as an auditor does, once the projections have caught up."""
        self.services.queries.catch_up(self.services.queries.experiment_ids())
        with self.services.database.read() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def good(self) -> NewEvent:
        """Give an event that is taken whatever the trial does."""
        return self.handle.event(GOOD, START)

    def refuses(self, kind: type[Exception], action: Callable[[], object], *said: str) -> None:
        """Do something; expect that it is refused, that the log stays as it is, and that it takes what is good."""
        before = self.stored()
        refused(kind, action, *said)
        assert self.stored() == before
        assert self.services.recorder.append([self.good()])[0].stored_before is False

    def refuses_event(self, kind: type[BadInput], payload: Event, *said: str) -> None:
        """Send an event in Python, behind a good one, and the same in the wire form, if it can be written there."""
        bad = self.handle.event(payload, START)
        named = f"event {bad.event_id} ({payload.TYPE} of {EXPERIMENT})"
        self.refuses(kind, lambda: self.services.recorder.append([self.good(), bad]), named, *said)

    def refuses_lines(self, kind: type[BadInput], lines: Sequence[bytes], *said: str) -> None:
        """Send lines behind a good one; the last one of them is at fault, and is named by its number."""
        first = line("trial_reported", {"trial_id": "7", "resource": 1, "metric": 0.5})
        self.refuses(kind, lambda: self.ingest(first, *lines), f"line {len(lines) + 1}", *said)


@contextmanager
def running_trial(url: str) -> Iterator[Trial7]:
    """Give a database in which trial 7 of experiment `one` runs."""
    create_schema(url)
    clock, store = HandClock(), MemoryStore()
    with services_over(url, clock, lambda _: store) as services:
        trial = Trial7(services, clock, store)
        trial.ingest(line("experiment_registered", REGISTRATION), line("trial_started", {"trial_id": "7"}))
        yield trial

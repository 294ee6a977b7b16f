"""What the tests of bad input share: events as a recorder writes them, and proof that what is refused leaves nothing.

A refusal is known by its class and its message, which is one printable line.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, text

from quota.client import ExperimentHandle
from quota.domain.events import Event, NewEvent, TrialReported
from quota.errors import BadInput
from quota.eventlog.tables import events, metadata
from quota.services.ids import new_id
from quota.services.ingesting import IngestReport, ingest, parse_line
from quota.testing.memory_store import MemoryStore
from support import START, HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from quota.bootstrap import Services

EXPERIMENT = "one"
REGISTERED: dict[str, Any] = {
    "mode": "min",
    "rung_levels": [1, 3, 9],
    "promotion_quantiles": [0.5, 0.5, 0.5],
    "max_resource": 27,
    "max_wallclock_seconds": 600,
}
GOOD = TrialReported(trial_id="7", resource=1, metric=0.5)


def event(type_name: str, data: object = None, **envelope: Any) -> dict[str, Any]:  # noqa: ANN401
    """One event in the wire form."""
    return {
        "event_id": new_id(),
        "experiment_id": EXPERIMENT,
        "type": type_name,
        "occurred_at": START.isoformat(),
        "data": {} if data is None else data,
    } | envelope


def line(sent: dict[str, Any]) -> bytes:
    return json.dumps(sent).encode()


def raw_line(type_name: str, data: str) -> bytes:
    """One event as a line, with this very text as its data."""
    return line(event(type_name, "DATA")).replace(b'"DATA"', data.encode())


def ingest_lines(services: Services, *lines: bytes) -> IngestReport:
    """Ingest lines as one batch, and say what came of them."""
    return list(ingest(lines, services.recorder, "tester"))[-1]


def send(services: Services, *sent: dict[str, Any]) -> int:
    """Ingest events as one batch; returns how many were stored."""
    return ingest_lines(services, *map(line, sent)).stored


def good(services: Services) -> NewEvent:
    """Give an event that is taken whatever trial 7 does."""
    return ExperimentHandle(services, "tester", EXPERIMENT).event(GOOD, START)


def contents(services: Services) -> dict[str, int]:
    """How many rows each table has."""
    with services.database.read() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
            if table.name != "streams"
        }


def stored_types(services: Services, experiment_id: str = EXPERIMENT) -> list[str]:
    query = select(events.c.type).where(events.c.experiment_id == experiment_id).order_by(events.c.position)
    with services.database.read() as connection:
        return list(connection.execute(query).scalars())


def refused(kind: type[BadInput], action: Callable[[], object], *said: str) -> BadInput:
    """Expect that `action` is refused, with a message of one line that says all of `said`."""
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert message.isprintable(), ascii(message)
    assert [part for part in said if part not in message] == [], message
    return caught.value


def refused_line(kind: type[BadInput], sent: bytes, *said: str) -> BadInput:
    """Expect that a line is refused before any database is asked, named by its number."""
    error = refused(kind, lambda: parse_line(sent, 7, "tester"), *said)
    assert str(error).startswith("line 7")
    return error


def refused_and_not_kept(
    services: Services, kind: type[BadInput], action: Callable[[], object], *said: str
) -> BadInput:
    """Do something; expect that it is refused, that no table gains by it, and that the next event is taken."""
    before = contents(services)
    error = refused(kind, action, *said)
    assert contents(services) == before
    assert services.recorder.append([good(services)])[0].stored_before is False
    return error


def assert_refused(services: Services, *sent: dict[str, Any], error: type[BadInput], message: str) -> None:
    """The batch is refused with exactly this text, and nothing of it is kept."""
    told = str(refused_and_not_kept(services, error, lambda: send(services, *sent)))
    for one in sent:
        told = told.replace(str(one["event_id"]), "ID")
    assert told == message


class Trial7:
    """Trial 7 of experiment `one`, which runs."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.handle = ExperimentHandle(services, "tester", EXPERIMENT)

    def ingest(self, *lines: bytes) -> IngestReport:
        """Ingest lines as one batch, and say what came of them."""
        return ingest_lines(self.services, *lines)

    def stored(self) -> int:
        """Count what the log holds."""
        return contents(self.services)["events"]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the database, as an auditor does, once the projections have caught up."""
        self.services.queries.catch_up(self.services.queries.experiment_ids())
        with self.services.database.read() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def good(self) -> NewEvent:
        """Give an event that is taken whatever the trial does."""
        return good(self.services)

    def refuses(self, kind: type[BadInput], action: Callable[[], object], *said: str) -> None:
        """Do something; expect that it is refused, and that nothing of it is kept."""
        refused_and_not_kept(self.services, kind, action, *said)

    def refuses_event(self, kind: type[BadInput], payload: Event, *said: str) -> None:
        """Send an event in Python, behind a good one."""
        bad = self.handle.event(payload, START)
        named = f"event {bad.event_id} ({payload.TYPE} of {EXPERIMENT})"
        self.refuses(kind, lambda: self.services.recorder.append([self.good(), bad]), named, *said)

    def refuses_lines(self, kind: type[BadInput], lines: Sequence[bytes], *said: str) -> None:
        """Send lines behind a good one; the last one of them is at fault, and is named by its number."""
        first = line(event("trial_reported", {"trial_id": "7", "resource": 1, "metric": 0.5}))
        self.refuses(kind, lambda: self.ingest(first, *lines), f"line {len(lines) + 1}", *said)


@contextmanager
def experiment(url: str, store: MemoryStore | None = None) -> Iterator[Services]:
    """Services over a database with experiment `one`, in which trial `7` runs, and over one store."""
    create_schema(url)
    opened = MemoryStore() if store is None else store
    with services_over(url, HandClock(), lambda _: opened) as services:
        send(services, event("experiment_registered", REGISTERED), event("trial_started", {"trial_id": "7"}))
        yield services


@contextmanager
def running_trial(url: str) -> Iterator[Trial7]:
    """The same, by way of its trial 7."""
    with experiment(url) as services:
        yield Trial7(services)

"""What the tests of refusals share: events as a recorder writes them, and proof that nothing was stored."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from quota.errors import BadInput
from quota.eventlog.tables import checkpoint_locations, events, metadata
from quota.services.ids import new_id
from quota.services.ingesting import ingest, parse_line
from quota.testing.memory_store import MemoryStore
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quota.bootstrap import Services

REGISTERED: dict[str, Any] = {
    "mode": "min",
    "rung_levels": [1, 3, 9],
    "promotion_quantiles": [0.5, 0.5, 0.5],
    "max_resource": 27,
    "max_wallclock_seconds": 600,
}


def event(type_name: str, data: dict[str, Any] | None = None, **envelope: Any) -> dict[str, Any]:  # noqa: ANN401
    """One event in the wire form."""
    return {
        "event_id": new_id(),
        "experiment_id": "one",
        "type": type_name,
        "occurred_at": "2026-01-01T00:00:01Z",
        "data": {} if data is None else data,
    } | envelope


def line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def send(services: Services, *sent: dict[str, Any]) -> int:
    """Ingest events as one batch; returns how many were stored."""
    stored = 0
    for report in ingest([line(one) for one in sent], services.recorder, "tester"):
        stored = report.stored
    return stored


def refused_line(text: bytes) -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse_line(text, 7, "tester")
    assert str(caught.value).startswith("line 7")
    assert str(caught.value).isprintable()
    return caught.value


@contextmanager
def experiment(url: str) -> Iterator[Services]:
    """Services over a database with experiment `one`, in which trial `7` runs."""
    create_schema(url)
    store = MemoryStore()
    with services_over(url, HandClock(), lambda _: store) as services:
        send(services, event("experiment_registered", REGISTERED), event("trial_started", {"trial_id": "7"}))
        yield services


def contents(services: Services) -> dict[str, int]:
    """How many rows each table has."""
    with services.database.read() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
            if table.name != "streams"
        }


def assert_refused(services: Services, *sent: dict[str, Any], error: type[BadInput], message: str) -> None:
    """The batch is refused with exactly this text, nothing of it is stored, and the next event is taken."""
    before = contents(services)
    with pytest.raises(error) as caught:
        send(services, *sent)
    told = str(caught.value)
    for one in sent:
        told = told.replace(str(one["event_id"]), "ID")
    assert told == message
    assert contents(services) == before
    assert send(services, event("trial_reported", {"trial_id": "7", "resource": 2, "metric": 0.5})) == 1


def stored_types(services: Services, experiment_id: str = "one") -> list[str]:
    query = select(events.c.type).where(events.c.experiment_id == experiment_id).order_by(events.c.position)
    with services.database.read() as connection:
        return list(connection.execute(query).scalars())


def locations(services: Services) -> list[str]:
    with services.database.read() as connection:
        return list(connection.execute(select(checkpoint_locations.c.location)).scalars())

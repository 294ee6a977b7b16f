"""An archive is restored into a database that has never seen its experiment, of either kind, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from archives import finish_with_nothing_left, rows_of, silent
from quota.eventlog.tables import checkpoint_locations
from quota.projections.view_tables import VIEWS
from quota.services.stream_audit import AuditOrder, audit_stream
from support import create_schema
from sweeps import sweeps_over

if TYPE_CHECKING:
    from archives import DirectoryShelf
    from quota.bootstrap import Services

# What the deployment's own stream says is not the experiment's.
OF_THE_EXPERIMENT = (
    "eviction_outcomes",
    "checkpoint_inventory",
    "rung_standings",
    "estimator_status",
    "trial_history",
)


def rows_by_view(services: Services) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    for name in OF_THE_EXPERIMENT:
        with services.exporter.exported(name, ["x"]) as exported:
            names = [column.name for column in exported.columns]
            store = names.index("store") if "store" in names else None
            found[name] = [tuple(value for at, value in enumerate(row) if at != store) for row in exported.rows]
    return found


@pytest.mark.parametrize(("one", "other"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_another_database_gets_the_same_bytes(
    one: str, other: str, request: pytest.FixtureRequest, directory: DirectoryShelf
) -> None:
    assert set(OF_THE_EXPERIMENT) < set(VIEWS)
    urls = [request.getfixturevalue(f"{kind}_url") for kind in (one, other)]
    for url in urls:
        create_schema(url)
    with sweeps_over(urls[0]) as source, sweeps_over(urls[1]) as target:
        finish_with_nothing_left(source)
        archive = source.services.archiver.create("x", directory.uri, silent)
        restored = target.services.event_restorer.restore(archive.uri, silent)
        target.services.queries.catch_up(["x"])
        assert (restored.uri, restored.removed_at) == (archive.uri, None)
        assert rows_of(target.services) == rows_of(source.services)
        assert rows_by_view(target.services) == rows_by_view(source.services)
        assert [event.payload.TYPE for event in target.events("_deployment")] == ["archive_restored"]
        (head,) = (head for head in target.services.auditor.heads() if head.experiment_id == "x")
        found = audit_stream(target.services.auditor, target.services.recomputer, head, AuditOrder(), silent)
        assert (found.fault, found.decisions, found.mismatched) == (None, 2, [])
        places = []
        for services in (source.services, target.services):
            with services.database.read() as connection:
                query = select(checkpoint_locations).order_by(checkpoint_locations.c.location)
                places.append([tuple(row) for row in connection.execute(query)])
        assert places[0] == places[1] != []

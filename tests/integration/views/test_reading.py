"""The views can be read with an auditor's own tools."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from integration.views.by_hand import PURGED, RANDOMLY, REGISTERED, SWEEP, ask, decided, deploy, paused, tell
from quota.domain.events import LimitSet, SweepStarted
from quota.projections.view_columns import VIEW_COLUMNS
from quota.testing.memory_store import MemoryStore
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from quota.bootstrap import Services


@pytest.mark.parametrize(
    "question",
    [
        "SELECT type FROM trial_history JOIN eviction_history USING (experiment_id, decision_id) ORDER BY position",
        "SELECT type FROM trial_history JOIN checkpoint_inventory USING (experiment_id, uri) ORDER BY position",
        "SELECT type FROM trial_history JOIN rung_standings USING (experiment_id, trial_id) ORDER BY position",
        "SELECT status FROM eviction_history JOIN sweep_history USING (sweep_id)",
    ],
)
def test_views_can_be_joined(services: Services, question: str) -> None:
    """PostgreSQL compares a uuid with no text, and no two texts of different collations."""
    tell(services, "one", REGISTERED, *paused("a", 0.5), decided(PURGED, "a", 4, reason="paused", place=1))
    deploy(services, SweepStarted(sweep_id=SWEEP, parameters=RANDOMLY, software_version="1"))

    found = [next(iter(row.values())) for row in ask(services, question)]
    assert found[-1] in {"eviction_decided", "unfinished"}


def test_views_have_types_of_their_own_on_postgresql(postgresql_url: str) -> None:
    create_schema(postgresql_url)
    expected = {
        "eviction_history.decided_at": "timestamp with time zone",
        "eviction_history.decision_id": "uuid",
        "eviction_history.score": "double precision",
        "checkpoint_inventory.is_newest": "boolean",
        "checkpoint_inventory.store": "text",
        "rung_standings.rank": "bigint",
        "estimator_status.level": "bigint",
        "estimator_status.posterior_mean": "double precision",
        "quota_usage.exceeded": "boolean",
        "limit_usage.used": "bigint",
        "limit_usage.exceeded": "boolean",
        "limit_shares.used": "bigint",
        "trial_history.decision_id": "uuid",
        "trial_history.metric": "double precision",
        "trial_history.size_bytes": "bigint",
        "sweep_history.duration_seconds": "double precision",
        "sweep_history.seed": "bigint",
        "sweep_history.parameters": "json",
    }
    with services_over(postgresql_url, HandClock(), MemoryStore) as services:
        rows = ask(services, "SELECT table_name, column_name, data_type FROM information_schema.columns")
    types = {f"{row['table_name']}.{row['column_name']}": row["data_type"] for row in rows}
    assert {column: types[column] for column in expected} == expected


def test_an_auditors_own_sqlite_reads_the_views(sqlite_url: str) -> None:
    create_schema(sqlite_url)
    with services_over(sqlite_url, HandClock(), MemoryStore) as services:
        tell(services, "one", REGISTERED, *paused("a", 0.5), decided(PURGED, "a", 4, reason="paused", place=1))
        deploy(services, SweepStarted(sweep_id=SWEEP, parameters=RANDOMLY, software_version="1"))
        deploy(services, LimitSet(scope="deployment", measure="bytes", high=1, low=1))
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        for view in VIEW_COLUMNS:
            assert connection.execute(f"SELECT * FROM {view}").fetchall(), view
        texts = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'view'")]
    # Words of SQLite 3.38 and later: an earlier one cannot even open a database whose schema has them.
    assert [sql for sql in texts if "->" in sql or "unixepoch" in sql] == []

"""Storing states as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from sqlalchemy import Connection, Executable, Table, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from quota.domain.deployment import DeploymentState
from quota.domain.experiment import (
    ExperimentState,
    Touched,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.projections.rows import RowValues, touched_deployment_rows, touched_rows
from quota.projections.snapshots import due_snapshots
from quota.projections.tables import (
    limits,
    projected_streams,
    reserves,
    rung_snapshots,
    scope_pins,
)

_POSITION = select(projected_streams.c.position).where(projected_streams.c.experiment_id == bindparam("name"))
_REBUILDS = select(projected_streams.c.experiment_id, projected_streams.c.rebuilds).where(
    projected_streams.c.experiment_id.in_(bindparam("names", expanding=True))
)


@cache
def _upsert(table: Table, dialect: str) -> Executable:
    """Return the statement that inserts a row, or overwrites the one with the same key."""
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
    if not changed:
        return statement.on_conflict_do_nothing()
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def upsert(connection: Connection, table: Table, rows: list[RowValues]) -> None:
    """Insert rows with all their columns, or overwrite those with the same key."""
    connection.execute(_upsert(table, connection.dialect.name), rows)


@cache
def _note_position(dialect: str) -> Executable:
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(projected_streams)
    return statement.on_conflict_do_update(
        index_elements=["experiment_id"], set_={"position": statement.excluded.position}
    )


def _write(connection: Connection, rows: Mapping[Table, list[RowValues]], stream: str, position: int) -> None:
    for table, values in rows.items():
        if values:
            upsert(connection, table, values)
    connection.execute(_note_position(connection.dialect.name), {"experiment_id": stream, "position": position})


def store_experiment(connection: Connection, state: ExperimentState) -> None:
    """Store what has changed, and the position up to which it reflects the stream."""
    rows = {**touched_rows(state), rung_snapshots: due_snapshots(state)}
    _write(connection, rows, state.experiment_id, state.position)
    state.touched = Touched()


def store_deployment(connection: Connection, state: DeploymentState) -> None:
    """Store what has changed, and the position up to which it reflects the stream."""
    for scope, measure in state.touched_limits - state.limits.keys():
        connection.execute(delete(limits).where(limits.c.scope == scope, limits.c.measure == measure))
    for scope, measure in state.touched_reserves - state.reserves.keys():
        connection.execute(delete(reserves).where(reserves.c.scope == scope, reserves.c.measure == measure))
    for scope in state.touched_pins - state.pins.keys():
        connection.execute(delete(scope_pins).where(scope_pins.c.scope == scope))
    _write(connection, touched_deployment_rows(state), DEPLOYMENT_STREAM, state.position)
    state.touched_stores, state.touched_limits, state.touched_sweeps = set(), set(), {}
    state.touched_reserves, state.touched_pins, state.touched_archives = set(), set(), set()


def projected_position(connection: Connection, stream: str) -> int:
    """Return up to which position the stored rows reflect a stream."""
    return connection.execute(_POSITION, {"name": stream}).scalar() or 0


def rebuilds_of(connection: Connection, experiment_ids: Sequence[str]) -> dict[str, int]:
    """Return how often the rows of some streams were made anew; nothing about those that have none."""
    found = connection.execute(_REBUILDS, {"names": experiment_ids})
    return {row.experiment_id: row.rebuilds for row in found}


def note_rebuild(connection: Connection, stream: str) -> None:
    """Count that a stream's rows were made anew, for whoever had loaded the old ones."""
    noted = update(projected_streams).where(projected_streams.c.experiment_id == stream)
    connection.execute(noted.values(rebuilds=projected_streams.c.rebuilds + 1))

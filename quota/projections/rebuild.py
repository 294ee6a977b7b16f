"""Making the projections anew from the log, and comparing them with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, select

from quota.domain.deployment import DeploymentState
from quota.domain.experiment import ExperimentState
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.eventlog.archived import require_events
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.projections.folding import Progress, State, fold_until, rows_ahead, rows_read
from quota.projections.rows import RowValues, touched_deployment_rows, touched_rows
from quota.projections.snapshots import load_rankings, snapshot_positions
from quota.projections.storage import note_rebuild, projected_position, store_deployment, store_experiment
from quota.projections.tables import DEPLOYMENT_TABLES, EXPERIMENT_TABLES, projected_streams, rung_snapshots


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not what the log adds up to.

    Attributes:
        table: Its table.
        key: Its primary key, by column.
        stored: The stored values that differ; None where the row is missing.
        rebuilt: What the log adds up to; None where the row should not be.
    """

    table: str
    key: Mapping[str, Any]
    stored: Mapping[str, Any] | None
    rebuilt: Mapping[str, Any] | None


class Rebuilder:
    """Folds whole streams from their first event on."""

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log

    def rebuild(self, stream_id: str, progress: Progress) -> int:
        """Replace a stream's rows by what its events add up to.

        Most of it happens without the stream's lock, so recorders go on; what they append meanwhile is read under
        the lock, and the rows are replaced in the same transaction.

        Returns:
            The position that the rows reflect now.

        Raises:
            LogCorrupt: the stream contradicts itself; the rows are as they were.
            StreamArchived: its events lie in an archive; likewise.
            ProjectionDiverged: the rows reflect a stream that the log does not hold; likewise.
        """
        with self._database.read() as connection:
            require_events(connection, stream_id)
            position, until = projected_position(connection, stream_id), self._log.position(connection, stream_id)
            if position > until == 0:
                # What was removed may have said where trash lies: nothing else tells that any more.
                raise rows_ahead(stream_id, position, until)
            state = self._folded(connection, stream_id, until, progress)
        with self._log.locked([stream_id]) as streams:
            stream = streams[stream_id]
            fold_until(self._log, stream.connection, state, stream.position, progress)
            self._clear(stream.connection, stream_id)
            if isinstance(state, ExperimentState):
                store_experiment(stream.connection, state)
            else:
                store_deployment(stream.connection, state)
            note_rebuild(stream.connection, stream_id)
            return state.position

    def verify(self, stream_id: str, progress: Progress) -> Iterator[Difference]:
        """Yield the rows of a stream that are not what its events add up to, as far as the rows reflect it.

        Raises:
            LogCorrupt: the stream contradicts itself.
            ProjectionDiverged: the rows reflect more than the stream holds.
            StreamArchived: its events lie in an archive.
        """
        with self._database.read() as connection:
            require_events(connection, stream_id)
            position, until = projected_position(connection, stream_id), self._log.position(connection, stream_id)
            if position > until:
                raise rows_ahead(stream_id, position, until)
            state = self._folded(connection, stream_id, position, progress)
            tables, rebuilt = _all_rows(state)
            for table in tables:
                yield from _differences(connection, table, stream_id, rebuilt.get(table, []))
            if isinstance(state, ExperimentState):
                yield from _stale_snapshots(connection, state)
            else:
                yield from _differences(connection, rung_snapshots, stream_id, [])

    def _folded(self, connection: Connection, stream_id: str, until: int, progress: Progress) -> State:
        state = DeploymentState() if stream_id == DEPLOYMENT_STREAM else ExperimentState(stream_id)
        fold_until(self._log, connection, state, until, progress)
        return state

    @staticmethod
    def _clear(connection: Connection, stream_id: str) -> None:
        if stream_id == DEPLOYMENT_STREAM:
            for table in DEPLOYMENT_TABLES:
                connection.execute(delete(table))
        for table in (*EXPERIMENT_TABLES, rung_snapshots):
            connection.execute(delete(table).where(table.c.experiment_id == stream_id))


def _all_rows(
    state: State,
) -> tuple[Sequence[Table], Mapping[Table, list[RowValues]]]:
    """Return the rows of a state that was folded from nothing, and the tables in which its stream may have any.

    None of an experiment's tables has a row of the deployment, unless somebody has added one.
    """
    if isinstance(state, ExperimentState):
        return EXPERIMENT_TABLES, touched_rows(state)
    return (*DEPLOYMENT_TABLES, *EXPERIMENT_TABLES), touched_deployment_rows(state)


def _differences(
    connection: Connection, table: Table, stream_id: str, rebuilt: list[RowValues]
) -> Iterator[Difference]:
    keys = [column.name for column in table.primary_key]

    def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in keys)

    query = select(table)
    if table not in DEPLOYMENT_TABLES:
        query = query.where(table.c.experiment_id == stream_id)
    expected = {key_of(row): row for row in rebuilt}
    for stored in _stored(connection, query, stream_id):
        row = expected.pop(key_of(stored), None)
        changed = [] if row is None else [name for name in row if row[name] != stored[name]]
        if row is not None and not changed:
            continue
        shown = list(stored) if row is None else changed
        yield Difference(
            table.name,
            {name: stored[name] for name in keys},
            {name: stored[name] for name in shown},
            None if row is None else {name: row[name] for name in shown},
        )
    for row in expected.values():
        yield Difference(table.name, {name: row[name] for name in keys}, None, row)


def _stored(connection: Connection, query: Select[Any], stream_id: str) -> Iterator[RowValues]:
    with rows_read(stream_id):
        yield from map(dict, connection.execute(query).mappings())


def _stale_snapshots(connection: Connection, state: ExperimentState) -> Iterator[Difference]:
    """Yield the rungs' snapshots that together with what has changed since are not what the log adds up to.

    So are those of no rung, and those that say to reflect what the rows do not: of that, none would be read.
    """
    with rows_read(state.experiment_id):
        written = snapshot_positions(connection, state.experiment_id)
        rankings = load_rankings(connection, state.experiment_id, written)
    for level, stored in rankings.items():
        if level not in state.rungs or written[level] > state.position:
            rung_key = {"experiment_id": state.experiment_id, "level": level}
            reflects = {"position": state.position} if level in state.rungs else None
            yield Difference(rung_snapshots.name, rung_key, {"position": written[level]}, reflects)
            continue
        for rank, (its, ours) in enumerate(zip_longest(stored.rows(), state.rungs[level].ranking().rows()), start=1):
            if its != ours:
                key = {"experiment_id": state.experiment_id, "level": level, "rank": rank}
                yield Difference(rung_snapshots.name, key, {"entry": its}, {"entry": ours})
                break


def stray_streams(connection: Connection, log: EventLog) -> list[str]:
    """Return whatever rows say they belong to that is no stream with events: somebody added the rows, or removed it."""
    known = {stream_id for stream_id, _ in streams_to_project(connection, log)}
    found: set[str] = set()
    for table in (*EXPERIMENT_TABLES, rung_snapshots):
        found.update(connection.execute(select(table.c.experiment_id).distinct()).scalars())
    reflected = select(projected_streams.c.experiment_id).where(projected_streams.c.position != 0)
    found.update(connection.execute(reflected).scalars())
    return sorted(found - known)


def streams_to_project(connection: Connection, log: EventLog) -> list[tuple[str, int]]:
    """Return (stream, position of its last event) of all streams that have events."""
    return [(stream_id, position) for stream_id, position, _ in log.heads(connection) if position]

"""Storing states as rows, and loading them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Executable, Table, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from quota.domain.deployment import DeploymentState, Store, Sweep
from quota.domain.events import EvictionDecided, PolicyParameters, RecordedEvent
from quota.domain.experiment import (
    OPEN_OUTCOMES,
    Checkpoint,
    Decision,
    Estimator,
    Experiment,
    ExperimentState,
    Touched,
    Trial,
    Usage,
)
from quota.domain.fold.accounting import note_derived
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.limits import Limit, Reserve, ScopePin
from quota.domain.order import in_order
from quota.domain.rung import Rung, RungEntry
from quota.errors import ProjectionDiverged
from quota.eventlog.log import EventLog
from quota.projections.rows import RowValues, touched_deployment_rows, touched_rows
from quota.projections.tables import (
    checkpoints,
    decisions,
    estimators,
    experiments,
    limits,
    paces,
    projected_streams,
    reserves,
    rung_entries,
    rungs,
    scope_pins,
    stores,
    sweeps,
    trials,
    usage,
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
        upsert(connection, table, values)
    connection.execute(_note_position(connection.dialect.name), {"experiment_id": stream, "position": position})


def store_experiment(connection: Connection, state: ExperimentState) -> None:
    """Store what has changed, and the position up to which it reflects the stream."""
    _write(connection, touched_rows(state), state.experiment_id, state.position)
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
    state.touched_reserves, state.touched_pins = set(), set()


def projected_position(connection: Connection, stream: str) -> int:
    """Return up to which position the stored rows reflect a stream."""
    query = select(projected_streams.c.position).where(projected_streams.c.experiment_id == stream)
    return connection.execute(query).scalar() or 0


def rebuilds_of(connection: Connection, experiment_ids: Sequence[str]) -> dict[str, int]:
    """Return how often the rows of some streams were made anew; nothing about those that have none."""
    query = select(projected_streams.c.experiment_id, projected_streams.c.rebuilds)
    found = connection.execute(query.where(projected_streams.c.experiment_id.in_(experiment_ids)))
    return {row.experiment_id: row.rebuilds for row in found}


def note_rebuild(connection: Connection, stream: str) -> None:
    """Count that a stream's rows were made anew, for whoever had loaded the old ones."""
    noted = update(projected_streams).where(projected_streams.c.experiment_id == stream)
    connection.execute(noted.values(rebuilds=projected_streams.c.rebuilds + 1))


def _rows(connection: Connection, table: Table, experiment_id: str) -> list[RowValues]:
    query = select(table).where(table.c.experiment_id == experiment_id)
    found = []
    for row in connection.execute(query).mappings():
        values = dict(row)
        del values["experiment_id"]
        found.append(values)
    return found


def load_experiment(connection: Connection, log: EventLog, experiment_id: str) -> ExperimentState:
    """Load an experiment's state, as far as its rows reflect the stream."""
    state = ExperimentState(experiment_id, position=projected_position(connection, experiment_id))
    for values in _rows(connection, experiments, experiment_id):
        state.experiment = Experiment(**values | {"labels": json.loads(values["labels"])})
    for values in _rows(connection, usage, experiment_id):
        state.usage = Usage(**values)
    for values in sorted(_rows(connection, rungs, experiment_id), key=lambda row: row["level"]):
        state.rungs[values["level"]] = Rung(values["level"], values["promotion_quantile"])
    for values in _rows(connection, rung_entries, experiment_id):
        if values["metric"] is None:
            values["metric"] = math.nan
        rung = state.rungs[values.pop("level")]
        rung.place(RungEntry(**values))
    _load_counts(connection, state)
    for values in _rows(connection, trials, experiment_id):
        if values["metric"] is None and values["resource"] is not None:
            values["metric"] = math.nan
        state.trials[values["trial_id"]] = Trial(**values)
    _load_checkpoints(connection, log, state)
    for trial in state.trials.values():
        note_derived(state, trial)
    state.touched = Touched()
    return state


def _load_counts(connection: Connection, state: ExperimentState) -> None:
    for values in _rows(connection, estimators, state.experiment_id):
        level = values.pop("level")
        state.estimators[level] = Estimator(**values)
    for values in _rows(connection, paces, state.experiment_id):
        state.pace.reports[values["bin"]] = values["reports"]


def _load_checkpoints(connection: Connection, log: EventLog, state: ExperimentState) -> None:
    loaded = [Checkpoint(**values) for values in _rows(connection, checkpoints, state.experiment_id)]
    by_trial: dict[str, list[Checkpoint]] = defaultdict(list)
    for checkpoint in sorted(loaded, key=lambda one: one.saved_position):
        state.checkpoints[checkpoint.uri] = checkpoint
        by_trial[checkpoint.trial_id].append(checkpoint)
    for trial_id, own in by_trial.items():
        state.trial_uris[trial_id] = [checkpoint.uri for checkpoint in in_order(own)]
    query = select(decisions).where(
        decisions.c.experiment_id == state.experiment_id, decisions.c.outcome.in_(OPEN_OUTCOMES)
    )
    for row in connection.execute(query.order_by(decisions.c.decided_position)):
        decided = _event_at(connection, log, state.experiment_id, row.decided_position).payload
        if not isinstance(decided, EvictionDecided):
            message = f"event {row.decided_position} of {state.experiment_id} is no eviction_decided"
            raise ProjectionDiverged(message)
        state.decisions[row.decision_id] = Decision(
            decided=decided,
            decided_position=row.decided_position,
            decided_at=row.decided_at,
            actor=row.actor,
            outcome=row.outcome,
            outcome_at=row.outcome_at,
            freed_bytes=row.freed_bytes,
            failures=row.failures,
            failed_at=row.failed_at,
            error=row.error,
        )


def checkpoints_of(connection: Connection, experiment_id: str, trial_ids: Sequence[str]) -> dict[str, list[Checkpoint]]:
    """Return trials' checkpoints as the rows have them, in order (`quota.domain.order`).

    Args:
        connection: Where.
        experiment_id: Whose trials.
        trial_ids: Which of them, as many as one query may name.
    """
    query = select(*(checkpoints.c[field.name] for field in fields(Checkpoint)))
    query = query.where(checkpoints.c.experiment_id == experiment_id, checkpoints.c.trial_id.in_(trial_ids))
    found: dict[str, list[Checkpoint]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        found[row["trial_id"]].append(Checkpoint(**row))
    return {trial_id: in_order(own) for trial_id, own in found.items()}


def _event_at(connection: Connection, log: EventLog, experiment_id: str, position: int) -> RecordedEvent:
    for event in log.read(connection, experiment_id, after=position - 1, until=position):
        return event
    raise LookupError(f"event {position} of {experiment_id}")


def load_deployment(connection: Connection) -> DeploymentState:
    """Load the deployment's state, as far as its rows reflect the stream."""
    state = DeploymentState(position=projected_position(connection, DEPLOYMENT_STREAM))
    for row in connection.execute(select(stores)).mappings():
        state.known_stores[row["uri"]] = Store(**row)
    for row in connection.execute(select(limits)).mappings():
        limit = Limit(**row)
        state.limits[limit.scope, limit.measure] = limit
    for row in connection.execute(select(reserves)).mappings():
        reserve = Reserve(**row)
        state.reserves[reserve.scope, reserve.measure] = reserve
    for row in connection.execute(select(scope_pins)).mappings():
        state.pins[row["scope"]] = ScopePin(**row)
    for row in connection.execute(select(sweeps).where(sweeps.c.finished_at.is_(None))).mappings():
        values: dict[str, Any] = dict(row)
        del values["policy"]
        values["parameters"] = msgspec.json.decode(values["parameters"], type=PolicyParameters)
        for name in ("exceeded", "errors"):
            values[name] = tuple(json.loads(values[name]))
        state.sweeps[values["sweep_id"]] = Sweep(**values)
    return state

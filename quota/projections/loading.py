"""Loading states from rows."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import msgspec
from sqlalchemy import Connection, select

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
from quota.projections.storage import projected_position
from quota.projections.tables import (
    checkpoints,
    decisions,
    estimators,
    experiments,
    limits,
    paces,
    reserves,
    rung_entries,
    rungs,
    scope_pins,
    stores,
    sweeps,
    trials,
    usage,
)


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

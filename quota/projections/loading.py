"""Loading states from rows."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar, cast

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    TextClause,
    select,
    union_all,
)

from quota.domain.archives import Archive
from quota.domain.deployment import DeploymentState, Store, Sweep
from quota.domain.events import EvictionDecided, PolicyParameters, RecordedEvent
from quota.domain.experiment import (
    Checkpoint,
    Decision,
    Estimator,
    Experiment,
    ExperimentState,
    Touched,
    Trial,
    Usage,
)
from quota.domain.fold.accounting import note_derived, note_holding
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.limits import Limit, Reserve, ScopePin
from quota.domain.order import in_order
from quota.domain.rung import RankedRung, Rung
from quota.domain.rung_entry import RungEntry
from quota.errors import ProjectionDiverged
from quota.eventlog.log import EventLog
from quota.projections.rows import ENTRY_COLUMNS, entry_of
from quota.projections.snapshots import load_rankings, snapshot_positions
from quota.projections.storage import projected_position
from quota.projections.tables import (
    HAS_CHECKPOINT,
    IS_LIVE,
    IS_OPEN,
    archives,
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

R = TypeVar("R", Checkpoint, Experiment, Trial, Usage)

_ENTRY = rung_entries.c


def _records(
    connection: Connection, kind: type[R], table: Table, experiment_id: str, *conditions: ColumnElement[bool]
) -> list[R]:
    """Return rows as records, whose fields are named as the columns are."""
    query = select(*(table.c[one.name] for one in fields(kind)))
    rows = connection.execute(query.where(table.c.experiment_id == experiment_id, *conditions))
    return [kind(*row) for row in rows]


def load_experiment(connection: Connection, log: EventLog, experiment_id: str) -> ExperimentState:
    """Load an experiment's state, as far as its rows reflect the stream."""
    state = _begun(connection, experiment_id)
    _load_entries(connection, state)
    _load_trials(connection, state)
    _load_checkpoints(connection, state)
    _load_decisions(connection, log, state)
    for trial in state.trials.values():
        note_derived(state, trial)
    state.touched = Touched()
    return state


def load_live(connection: Connection, log: EventLog, experiment_id: str, *, ranked: bool) -> ExperimentState:
    """Load what planning asks of an experiment, as far as its rows reflect the stream; nothing is folded into that.

    Left out are trials that hold nothing, but for those that run, and checkpoints of all trials that hold nothing.

    Args:
        connection: Where.
        log: Has the open decisions.
        experiment_id: The experiment.
        ranked: Whether what may be evicted is asked for: then of rungs there are the candidates and the ranking.
    """
    state = _begun(connection, experiment_id)
    if ranked:
        _load_candidates(connection, state)
    opened = select(decisions.c.trial_id).where(*_open_of(experiment_id))
    own = trials.c.experiment_id == experiment_id
    holding = select(trials.c.trial_id).where(own, IS_LIVE)
    _load_trials(connection, state, trials.c.trial_id.in_(union_all(holding, opened)))
    holding = select(trials.c.trial_id).where(own, IS_LIVE, trials.c.stored_checkpoints > 0)
    _load_checkpoints(connection, state, checkpoints.c.trial_id.in_(union_all(holding, opened)))
    _load_decisions(connection, log, state)
    for trial in state.trials.values():
        note_holding(state, trial)
    return state


def has_open_decisions(connection: Connection, experiment_id: str) -> bool:
    """Tell whether the rows have a decision of an experiment that is open."""
    query = select(decisions.c.decision_id).where(*_open_of(experiment_id)).limit(1)
    return connection.execute(query).first() is not None


def _open_of(experiment_id: str) -> tuple[ColumnElement[bool], TextClause]:
    return decisions.c.experiment_id == experiment_id, IS_OPEN


def _begun(connection: Connection, experiment_id: str) -> ExperimentState:
    """Load what there is one of, or a few."""
    state = ExperimentState(experiment_id, position=projected_position(connection, experiment_id))
    for experiment in _records(connection, Experiment, experiments, experiment_id):
        experiment.labels = json.loads(cast("str", experiment.labels))
        state.experiment = experiment
    for found in _records(connection, Usage, usage, experiment_id):
        state.usage = found
    query = select(estimators.c.level, estimators.c.ones, estimators.c.total)
    for level, ones, total in connection.execute(query.where(estimators.c.experiment_id == experiment_id)):
        state.estimators[level] = Estimator(ones, total)
    counts = select(paces.c.bin, paces.c.reports).where(paces.c.experiment_id == experiment_id)
    for number, reports in connection.execute(counts):
        state.pace.reports[number] = reports
    return state


def _rungs(connection: Connection, experiment_id: str) -> dict[int, float]:
    """Return the promotion quantile of each rung, by level, rising."""
    query = select(rungs.c.level, rungs.c.promotion_quantile)
    query = query.where(rungs.c.experiment_id == experiment_id).order_by(rungs.c.level)
    return {row.level: row.promotion_quantile for row in connection.execute(query)}


def _load_entries(connection: Connection, state: ExperimentState) -> None:
    by_level: dict[int, list[RungEntry]] = defaultdict(list)
    query = select(_ENTRY.level, *ENTRY_COLUMNS).where(_ENTRY.experiment_id == state.experiment_id)
    for level, *values in connection.execute(query):
        by_level[level].append(entry_of(*values))
    written = snapshot_positions(connection, state.experiment_id)
    for level, quantile in _rungs(connection, state.experiment_id).items():
        entries, since = by_level[level], written.get(level, 0)
        state.rungs[level] = Rung(level, quantile, entries)
        state.changed_since_snapshot[level] = sum(one.changed_position > since for one in entries)


def _load_candidates(connection: Connection, state: ExperimentState) -> None:
    """Load the entries that may be evicted, and of the others what ranks them."""
    by_level: dict[int, list[RungEntry]] = defaultdict(list)
    query = select(_ENTRY.level, *ENTRY_COLUMNS).where(_ENTRY.experiment_id == state.experiment_id, HAS_CHECKPOINT)
    for level, *values in connection.execute(query):
        by_level[level].append(entry_of(*values))
    quantiles = _rungs(connection, state.experiment_id)
    for level, ranking in load_rankings(connection, state.experiment_id, quantiles).items():
        state.rungs[level] = RankedRung(level, quantiles[level], ranking, by_level[level])


def _load_trials(connection: Connection, state: ExperimentState, *conditions: ColumnElement[bool]) -> None:
    for trial in _records(connection, Trial, trials, state.experiment_id, *conditions):
        if trial.metric is None and trial.resource is not None:
            trial.metric = math.nan
        state.trials[trial.trial_id] = trial


def _load_checkpoints(connection: Connection, state: ExperimentState, *conditions: ColumnElement[bool]) -> None:
    loaded = _records(connection, Checkpoint, checkpoints, state.experiment_id, *conditions)
    by_trial: dict[str, list[Checkpoint]] = defaultdict(list)
    for checkpoint in sorted(loaded, key=lambda one: one.saved_position):
        state.checkpoints[checkpoint.uri] = checkpoint
        by_trial[checkpoint.trial_id].append(checkpoint)
    for trial_id, own in by_trial.items():
        state.trial_uris[trial_id] = [checkpoint.uri for checkpoint in in_order(own)]


def _load_decisions(connection: Connection, log: EventLog, state: ExperimentState) -> None:
    query = select(decisions).where(*_open_of(state.experiment_id))
    # Ordered by the database, SQLite would read the index by position instead of that of the open ones.
    for row in sorted(connection.execute(query), key=attrgetter("decided_position")):
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
    for row in connection.execute(select(archives)).mappings():
        state.archives[row["experiment_id"], row["uri"]] = Archive(**row)
    for row in connection.execute(select(sweeps).where(sweeps.c.finished_at.is_(None))).mappings():
        values: dict[str, Any] = dict(row)
        del values["policy"]
        values["parameters"] = msgspec.json.decode(values["parameters"], type=PolicyParameters)
        for name in ("exceeded", "errors"):
            values[name] = tuple(json.loads(values[name]))
        state.sweeps[values["sweep_id"]] = Sweep(**values)
    return state

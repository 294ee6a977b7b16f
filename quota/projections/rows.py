"""Between records and rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec
from sqlalchemy import Table

from quota.domain.deployment import DeploymentState
from quota.domain.experiment import Decision, ExperimentState
from quota.domain.rung_entry import RungEntry
from quota.eventlog.codec import encode_plain
from quota.projections.tables import (
    archives,
    checkpoints,
    decisions,
    estimators,
    experiments,
    flags,
    limits,
    losses,
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

RowValues = dict[str, Any]

ENTRY_COLUMNS = tuple(rung_entries.c[one.name] for one in fields(RungEntry))
"""What `entry_of` takes."""

_DECIDED_COLUMNS = tuple(
    name
    for name in decisions.c.keys()  # noqa: SIM118 - a column collection iterates over columns, not their names
    if name
    not in {
        "experiment_id",
        "manifest_entries",
        "policy",
        "parameters",
        "arrivals_better",
        "metric",
        "decided_position",
        "decided_at",
        "actor",
        "outcome",
        "outcome_at",
        "freed_bytes",
        "failures",
        "failed_at",
        "error",
    }
)


def without_nan(metric: float | None) -> float | None:
    """Return what a metric is in a row: NULL for NaN."""
    return None if metric is None or math.isnan(metric) else metric


def entry_of(trial_id: str, metric: float | None, *rest: Any) -> RungEntry:  # noqa: ANN401 - the columns' values
    """Return the entry that a row of `ENTRY_COLUMNS` says."""
    return RungEntry(trial_id, math.nan if metric is None else metric, *rest)


def _record(record: Any) -> RowValues:  # noqa: ANN401 - any of the domain's dataclasses
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _decision(experiment_id: str, decision: Decision) -> RowValues:
    decided = decision.decided
    return {
        **{name: getattr(decided, name) for name in _DECIDED_COLUMNS},
        "experiment_id": experiment_id,
        "manifest_entries": len(decided.manifest.entries),
        "policy": None if decided.parameters is None else decided.parameters.policy,
        "parameters": None if decided.parameters is None else encode_plain(decided.parameters),
        "arrivals_better": None if decided.arrivals_better is None else encode_plain(decided.arrivals_better),
        "metric": without_nan(decided.metric),
        "decided_position": decision.decided_position,
        "decided_at": decision.decided_at,
        "actor": decision.actor,
        "outcome": decision.outcome,
        "outcome_at": decision.outcome_at,
        "freed_bytes": decision.freed_bytes,
        "failures": decision.failures,
        "failed_at": decision.failed_at,
        "error": decision.error,
    }


def touched_rows(state: ExperimentState) -> Mapping[Table, list[RowValues]]:
    """Return the rows that have changed since the state was last stored; all of them after a fold from nothing."""
    touched, stream = state.touched, {"experiment_id": state.experiment_id}
    found: dict[Table, list[RowValues]] = {
        trials: [
            stream | _record(trial) | {"metric": without_nan(trial.metric)}
            for trial in (state.trials[trial_id] for trial_id in touched.trials)
        ],
        rungs: [
            stream
            | {
                "level": level,
                "promotion_quantile": state.rungs[level].promotion_quantile,
                "length": len(state.rungs[level]),
            }
            for level in touched.rungs
        ],
        rung_entries: [
            stream | {"level": level} | _record(entry) | {"metric": without_nan(entry.metric)}
            for level, entry in (
                (level, state.rungs[level].entries[trial_id]) for level, trial_id in touched.rung_entries
            )
        ],
        paces: [stream | {"bin": number, "reports": state.pace.reports[number]} for number in touched.paces],
        estimators: [stream | {"level": level} | _record(state.estimators[level]) for level in touched.estimators],
        checkpoints: [stream | _record(state.checkpoints[uri]) for uri in touched.checkpoints],
        decisions: [_decision(state.experiment_id, decision) for decision in touched.decisions.values()],
        flags: [stream | {"position": position, "reason": reason} for position, reason in touched.flags],
        losses: [stream | _record(loss) for loss in touched.losses],
    }
    if touched.experiment and state.experiment is not None:
        labels = json.dumps(state.experiment.labels, sort_keys=True, ensure_ascii=False)
        found[experiments] = [stream | _record(state.experiment) | {"labels": labels}]
        found[usage] = [stream | _record(state.usage)]
    return {table: rows for table, rows in found.items() if rows}


def touched_deployment_rows(state: DeploymentState) -> Mapping[Table, list[RowValues]]:
    """Return the rows that have changed since the state was last stored. What went is not among them."""
    found: dict[Table, list[RowValues]] = {
        stores: [_record(state.known_stores[uri]) for uri in state.touched_stores],
        limits: [_record(state.limits[key]) for key in state.touched_limits if key in state.limits],
        reserves: [_record(state.reserves[key]) for key in state.touched_reserves if key in state.reserves],
        scope_pins: [_record(state.pins[scope]) for scope in state.touched_pins if scope in state.pins],
        archives: [_record(state.archives[key]) for key in state.touched_archives],
        sweeps: [
            _record(sweep)
            | {
                "policy": sweep.parameters.policy,
                "parameters": encode_plain(sweep.parameters),
                "exceeded": msgspec.json.encode(sweep.exceeded).decode(),
                "errors": msgspec.json.encode(sweep.errors).decode(),
            }
            for sweep in state.touched_sweeps.values()
        ],
    }
    return {table: rows for table, rows in found.items() if rows}

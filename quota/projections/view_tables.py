"""The auditors' views as tables with typed columns, so that both databases give the same values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Double, TableClause, Text, collate, column, table
from sqlalchemy.types import TypeEngine

from quota.eventlog.types import Instant, JsonText, UuidText
from quota.projections.view_columns import VIEW_COLUMNS

_INTEGERS = """
    cancelled claimed_bytes claimed_checkpoints decided decided_position estimator_ones estimator_total evicted
    experiments failed failures freed_bytes held_checkpoints high kept_resource level limit_high limit_low lost_resource
    low manifest_entries missing ones place policy_version position rank rank_of_equals resource resumes_without
    rung_length running_trials saved_position seed size_bytes state_position stored_bytes stored_checkpoints total
    trashed_bytes trashed_checkpoints usage usage_after used
"""
_NUMBERS = """
    cost_seconds duration_seconds fraction lost_seconds metric p_better posterior_mean promotion_quantile
    resume_probability runner_up_score_seconds score seconds_per_resource time_ratio
"""
_SWITCHES = "exceeded has_checkpoint is_newest pinned promoted"
_TIMES = "decided_at finished_at occurred_at outcome_at planned_at recorded_at saved_at set_at started_at"
_IDS = "decision_id sweep_id"
_JSON = "arrivals_better errors parameters"

_TYPES: Mapping[str, TypeEngine[Any]] = {
    name: kind
    for names, kind in (
        (_INTEGERS, BigInteger()),
        (_NUMBERS, Double()),
        (_SWITCHES, Boolean()),
        (_TIMES, Instant()),
        (_IDS, UuidText()),
        (_JSON, JsonText()),
    )
    for name in names.split()
}
"""Types of the columns that are no text: a name means one thing in all views, but for what `_OTHERWISE` says."""

_OTHERWISE: Mapping[tuple[str, str], TypeEngine[Any]] = {("sweep_history", "exceeded"): JsonText()}

VIEW_ORDERS: Mapping[str, tuple[str, ...]] = {
    "eviction_history": ("experiment_id", "decided_position"),
    "eviction_outcomes": ("experiment_id", "decided_at", "decision_id"),
    "checkpoint_inventory": ("experiment_id", "trial_id", "uri"),
    "rung_standings": ("experiment_id", "level", "rank"),
    "estimator_status": ("experiment_id", "estimator", "level"),
    "quota_usage": ("experiment_id",),
    "limit_shares": ("scope", "measure", "set_for", "experiment_id"),
    "limit_usage": ("scope", "measure", "set_for"),
    "trial_history": ("experiment_id", "position"),
    "sweep_history": ("started_at", "sweep_id"),
}
"""By what each view's rows are told apart, and so in which order they are written out."""


def _view(name: str) -> TableClause:
    columns = (column(one, _OTHERWISE.get((name, one), _TYPES.get(one, Text()))) for one in VIEW_COLUMNS[name])
    return table(name, *columns)


VIEWS: Mapping[str, TableClause] = {name: _view(name) for name in VIEW_ORDERS}
"""By name."""


def order_of(view: TableClause, dialect: str) -> list[ColumnElement[Any]]:
    """Return by what a view is ordered: the same on both databases, bytewise where it is text."""
    keys = [view.c[name] for name in VIEW_ORDERS[view.name]]
    bytewise = dialect == "postgresql"
    return [collate(key, "C") if bytewise and isinstance(key.type, Text) else key for key in keys]

"""The projections' tables. Each row is a record of `quota.domain.experiment` or `quota.domain.deployment`.

A metric that is NaN is NULL here on both databases, since SQLite knows no NaN; the event keeps it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from quota.domain.experiment import OPEN_OUTCOMES
from quota.eventlog.tables import metadata
from quota.eventlog.types import BytewiseText, Instant, JsonText, UuidText


def _stream_key() -> Column[str]:
    return Column("experiment_id", BytewiseText, primary_key=True)


projected_streams = Table(
    "projected_streams",
    metadata,
    _stream_key(),
    Column("position", BigInteger, nullable=False),
    Column("rebuilds", BigInteger, nullable=False, server_default="0"),
)
"""Up to which position of each stream the rows reflect it, updated in the same transaction as the rows; and how often
they were made anew, so that no process goes on with what it had loaded before."""

experiments = Table(
    "experiments",
    metadata,
    _stream_key(),
    Column("mode", Text, nullable=False),
    Column("max_resource", BigInteger, nullable=False),
    Column("max_wallclock_seconds", Double),
    Column("labels", JsonText, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("trials_resumed", BigInteger, nullable=False),
    Column("trials_resumed_without_checkpoint", BigInteger, nullable=False),
    Column("lost_resource", BigInteger, nullable=False),
    Column("checkpoints_evicted", BigInteger, nullable=False),
)

trials = Table(
    "trials",
    metadata,
    _stream_key(),
    Column("trial_id", BytewiseText, primary_key=True),
    Column("status", Text, nullable=False),
    Column("bracket", BigInteger, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("resource", BigInteger),
    Column("metric", Double),
    Column("level", BigInteger),
    Column("resumes", BigInteger, nullable=False),
    Column("lost_resource", BigInteger, nullable=False),
    Column("stored_checkpoints", BigInteger, nullable=False),
    Column("resumed_position", BigInteger),
    Column("timed_at", Instant),
    Column("timed_resource", BigInteger, nullable=False),
    Column("promised_uri", BytewiseText),
)
IS_LIVE = text("(stored_checkpoints > 0 OR status = 'running')")
"""As text: with parameters in it, a query would not be known to be one that the index serves."""
Index("ix_trials_live", trials.c.experiment_id, postgresql_where=IS_LIVE, sqlite_where=IS_LIVE)
"""Planning asks for those that run or hold something."""

rungs = Table(
    "rungs",
    metadata,
    _stream_key(),
    Column("level", BigInteger, primary_key=True, autoincrement=False),
    Column("promotion_quantile", Double, nullable=False),
    Column("length", BigInteger, nullable=False),
)

rung_entries = Table(
    "rung_entries",
    metadata,
    _stream_key(),
    Column("level", BigInteger, primary_key=True, autoincrement=False),
    Column("trial_id", BytewiseText, primary_key=True),
    Column("metric", Double),
    Column("rank_value", Double, nullable=False),
    Column("placed_position", BigInteger, nullable=False),
    Column("changed_position", BigInteger, nullable=False),
    Column("promoted", Boolean, nullable=False),
    Column("waits", Boolean, nullable=False),
    Column("has_checkpoint", Boolean, nullable=False),
)
Index(None, rung_entries.c.level, rung_entries.c.experiment_id, rung_entries.c.changed_position)
HAS_CHECKPOINT = text("has_checkpoint")
Index(
    "ix_rung_entries_candidates",
    rung_entries.c.experiment_id,
    postgresql_where=HAS_CHECKPOINT,
    sqlite_where=HAS_CHECKPOINT,
)
"""Planning asks what changed since a rung's snapshot, and for what may be evicted: both are few among many. The level
comes first, or SQLite would take this index for the other one."""

rung_snapshots = Table(
    "rung_snapshots",
    metadata,
    _stream_key(),
    Column("level", BigInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""What `quota.projections.snapshots` writes, and when, depends on how often rows are stored: so these are no record of
what happened, and how they are written is nobody else's affair."""

estimators = Table(
    "estimators",
    metadata,
    _stream_key(),
    # 0 is the overall estimator's.
    Column("level", BigInteger, primary_key=True, autoincrement=False),
    Column("ones", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
)

paces = Table(
    "paces",
    metadata,
    _stream_key(),
    Column("bin", BigInteger, primary_key=True, autoincrement=False),
    Column("reports", BigInteger, nullable=False),
)
"""How many reports say that a unit of resource took so long; `quota.domain.pace` says what a bin stands for."""

checkpoints = Table(
    "checkpoints",
    metadata,
    _stream_key(),
    Column("uri", BytewiseText, primary_key=True),
    Column("trial_id", BytewiseText, nullable=False),
    Column("state", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("resource", BigInteger, nullable=False),
    Column("saved_position", BigInteger, nullable=False),
    Column("saved_at", Instant, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("decision_id", UuidText),
    Column("failures", Integer, nullable=False),
    Column("failed_at", Instant),
)
Index(None, checkpoints.c.experiment_id, checkpoints.c.trial_id)
"""Of a trial's checkpoints a resume asks, and planning of those of the trials that hold any."""

usage = Table(
    "usage",
    metadata,
    _stream_key(),
    Column("held_checkpoints", BigInteger, nullable=False),
    Column("running_trials", BigInteger, nullable=False),
    Column("stored_checkpoints", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("claimed_checkpoints", BigInteger, nullable=False),
    Column("claimed_bytes", BigInteger, nullable=False),
    Column("trashed_checkpoints", BigInteger, nullable=False),
    Column("trashed_bytes", BigInteger, nullable=False),
    Column("freed_bytes", BigInteger, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", UuidText, primary_key=True),
    Column("experiment_id", BytewiseText, nullable=False),
    Column("sweep_id", UuidText, nullable=False),
    Column("trial_id", BytewiseText, nullable=False),
    Column("uri", BytewiseText, nullable=False),
    Column("store_uri", BytewiseText, nullable=False),
    Column("checkpoint_position", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("manifest_entries", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state_position", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("limit_scope", Text),
    Column("limit_measure", Text),
    Column("limit_high", BigInteger),
    Column("limit_low", BigInteger),
    Column("usage", BigInteger),
    Column("usage_after", BigInteger),
    Column("planned_at", Instant),
    Column("policy", Text),
    Column("policy_version", BigInteger),
    Column("parameters", JsonText),
    Column("level", BigInteger),
    Column("metric", Double),
    Column("rank", BigInteger),
    Column("rung_length", BigInteger),
    Column("promotion_quantile", Double),
    Column("estimator", Text),
    Column("estimator_ones", BigInteger),
    Column("estimator_total", BigInteger),
    Column("rank_of_equals", BigInteger),
    Column("arrivals_better", JsonText),
    Column("p_better", Double),
    Column("time_ratio", Double),
    Column("resume_probability", Double),
    Column("kept_resource", BigInteger),
    Column("score", Double),
    Column("seconds_per_resource", Double),
    Column("cost_seconds", Double),
    Column("runner_up_uri", BytewiseText),
    Column("runner_up_score_seconds", Double),
    Column("decided_position", BigInteger, nullable=False),
    Column("decided_at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("outcome_at", Instant),
    Column("freed_bytes", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failed_at", Instant),
    Column("error", Text),
)
Index(None, decisions.c.experiment_id, decisions.c.decided_position)
Index(None, decisions.c.sweep_id)
IS_OPEN = text(f"outcome IN ({', '.join(map(repr, OPEN_OUTCOMES))})")
Index("ix_decisions_open", decisions.c.experiment_id, postgresql_where=IS_OPEN, sqlite_where=IS_OPEN)
"""A sweep asks which claims are open, and they are few among many."""

flags = Table(
    "flags",
    metadata,
    _stream_key(),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, primary_key=True),
)
"""Events that were kept without effect, or whose time is not used."""

losses = Table(
    "losses",
    metadata,
    _stream_key(),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("decision_id", UuidText, nullable=False),
    Column("trial_id", BytewiseText, nullable=False),
    Column("lost_resource", BigInteger, nullable=False),
    Column("lost_seconds", Double),
)
Index(None, losses.c.decision_id)
"""What resumes had to do without, by the decision that had taken it."""

stores = Table(
    "stores",
    metadata,
    Column("uri", BytewiseText, primary_key=True),
    Column("store_id", UuidText, nullable=False),
    Column("added_at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("removed_at", Instant),
)

limits = Table(
    "limits",
    metadata,
    Column("scope", BytewiseText, primary_key=True),
    Column("measure", Text, primary_key=True),
    Column("high", BigInteger, nullable=False),
    Column("low", BigInteger, nullable=False),
    Column("set_at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
)

reserves = Table(
    "reserves",
    metadata,
    Column("scope", BytewiseText, primary_key=True),
    Column("measure", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("set_at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
)

scope_pins = Table(
    "scope_pins",
    metadata,
    Column("scope", BytewiseText, primary_key=True),
    Column("pinned_at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
)

archives = Table(
    "archives",
    metadata,
    _stream_key(),
    Column("uri", BytewiseText, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("head_hash", Text, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("archived_at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("removed_at", Instant),
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("sweep_id", UuidText, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("actor", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("parameters", JsonText, nullable=False),
    Column("software_version", Text, nullable=False),
    Column("decided", BigInteger, nullable=False),
    Column("evicted", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("freed_bytes", BigInteger, nullable=False),
    Column("exceeded", JsonText, nullable=False),
    Column("errors", JsonText, nullable=False),
)
Index(
    "ix_sweeps_unfinished",
    sweeps.c.sweep_id,
    postgresql_where=sweeps.c.finished_at.is_(None),
    sqlite_where=sweeps.c.finished_at.is_(None),
)
"""Who looks at the deployment needs the few that run, out of all that ever ran."""

EXPERIMENT_TABLES = (
    experiments,
    trials,
    rungs,
    rung_entries,
    estimators,
    paces,
    checkpoints,
    usage,
    decisions,
    flags,
    losses,
)
"""Those whose rows belong to one experiment each, and are what its stream adds up to."""

DEPLOYMENT_TABLES = (stores, limits, reserves, scope_pins, sweeps, archives)
"""Those that the stream `_deployment` adds up to."""

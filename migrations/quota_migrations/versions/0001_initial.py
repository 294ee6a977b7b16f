"""The event log, the projections and the auditors' views.

The statements stand in a file for each database: what they make must stay what it was on the day they were written,
and as SQL it can be read as it is.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEPARATOR = "\n--\n"
_VIEWS = (
    "eviction_history",
    "eviction_outcomes",
    "checkpoint_inventory",
    "rung_standings",
    "estimator_status",
    "quota_usage",
    "limit_usage",
    "limit_shares",
    "trial_history",
    "sweep_history",
)
_TABLES = (
    "archives",
    "checkpoint_locations",
    "checkpoints",
    "clock_readings",
    "decisions",
    "estimators",
    "events",
    "experiments",
    "flags",
    "heartbeats",
    "limits",
    "losses",
    "leases",
    "paces",
    "projected_streams",
    "reserves",
    "rung_entries",
    "rung_snapshots",
    "rungs",
    "scope_pins",
    "stores",
    "streams",
    "sweeps",
    "trials",
    "usage",
)


def upgrade() -> None:
    """Make everything."""
    dialect = op.get_bind().dialect.name
    script = Path(__file__).with_name(f"0001_initial.{dialect}.sql").read_text(encoding="utf-8")
    for statement in script.split(_SEPARATOR):
        op.get_bind().exec_driver_sql(statement.replace("%", "%%") if dialect == "postgresql" else statement)


def downgrade() -> None:
    """Remove everything, the log included."""
    for view in _VIEWS:
        op.execute(f"DROP VIEW {view}")
    for table in _TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION reject_event_change()")

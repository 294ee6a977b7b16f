"""The event log's tables, and what keeps their rows from ever changing."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.schema import DDL

from quota.eventlog.types import BytewiseText, Instant, JsonText, UuidText

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""All tables of the product; the projections add theirs."""

# SQLite numbers rows by itself in a column of exactly this type only.
_RowNumber = BigInteger().with_variant(Integer, "sqlite")

PARTITION_COUNT = 16
PARTITIONS = tuple(f"events_{number:02}" for number in range(PARTITION_COUNT))
"""On PostgreSQL each stream's events lie in one of these tables, so that no index grows with the whole deployment."""

ONLY_ON = "only_on"
"""Under this name a constraint's `info` says for which of the databases it is."""


def _unique(*columns: str, dialect: str) -> UniqueConstraint:
    constraint = UniqueConstraint(*columns, info={ONLY_ON: dialect})
    constraint.ddl_if(dialect=dialect)
    return constraint


events = Table(
    "events",
    metadata,
    Column("global_position", _RowNumber, Identity(always=True), primary_key=True),
    Column("experiment_id", BytewiseText, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("event_id", UuidText, nullable=False),
    Column("type", Text, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("trial_id", Text),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("data", JsonText, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    # PostgreSQL wants each key of a partitioned table to hold the column that it is partitioned by.
    _unique("experiment_id", "position", dialect="sqlite"),
    _unique("event_id", dialect="sqlite"),
    _unique("event_id", "experiment_id", dialect="postgresql"),
    postgresql_partition_by="HASH (experiment_id)",
)
Index(None, events.c.experiment_id, events.c.trial_id, events.c.position)
"""For auditors, who ask about one trial."""
# There its primary key is (experiment_id, position).
events.primary_key.ddl_if(dialect="sqlite")

streams = Table(
    "streams",
    metadata,
    Column("experiment_id", BytewiseText, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("recorded_at", Instant),
    Column("archive_uri", Text),
)
"""The heads of the streams. Whoever appends holds its stream's row. `archive_uri` says where the events are that were
taken out of the log once they were archived; it is NULL of all other streams."""

checkpoint_locations = Table(
    "checkpoint_locations",
    metadata,
    Column("location", BytewiseText, primary_key=True),
    Column("experiment_id", BytewiseText, nullable=False),
    Column("trial_id", Text, nullable=False),
)
"""Whose each location is, over all experiments: no two of them may overlap, or evicting one would take another."""

leases = Table(
    "leases",
    metadata,
    Column("name", BytewiseText, primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("holder", Text),
    Column("process", Text),
    Column("acquired_at", Instant),
    Column("expires_at", Instant),
)
"""Who may do what only one process may do at a time. The token rises with each holder."""

clock_readings = Table(
    "clock_readings",
    metadata,
    Column("boot", BytewiseText, primary_key=True),
    Column("up_seconds", Double, nullable=False),
    Column("read_at", Instant, nullable=False),
)
"""What the host's clock said when it was first looked at since the host was started; on SQLite only."""

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("daemon_id", UuidText, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("process", Text),
    Column("software_version", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("beat_at", Instant, nullable=False),
    Column("silent_after", Instant, nullable=False),
    Column("last_job", Text),
    Column("last_job_at", Instant),
    Column("last_error", Text),
)
"""Which daemons run. One that was told to end removes its row; one that was killed leaves it."""

IMMUTABLE = "events are never changed: the log is append-only"

SQLITE_TRIGGERS = {
    "events_reject_update": "BEFORE UPDATE ON events",
    "events_reject_delete": (
        "BEFORE DELETE ON events WHEN NOT EXISTS (SELECT 1 FROM streams"
        " WHERE experiment_id = OLD.experiment_id AND archive_uri IS NOT NULL)"
    ),
    # INSERT OR REPLACE deletes what is in its way without asking a delete trigger.
    "events_reject_replace": (
        "BEFORE INSERT ON events WHEN EXISTS (SELECT 1 FROM events WHERE event_id = NEW.event_id"
        " OR (experiment_id = NEW.experiment_id AND position = NEW.position)"
        " OR global_position = NEW.global_position)"
    ),
}

for _name, _when in SQLITE_TRIGGERS.items():
    event.listen(
        events,
        "after_create",
        DDL(f"CREATE TRIGGER {_name} {_when} BEGIN SELECT RAISE(ABORT, '{IMMUTABLE}'); END").execute_if(
            dialect="sqlite"
        ),
    )

POSTGRESQL_TRIGGERS = {
    "events_reject_change": "BEFORE UPDATE OR DELETE ON events FOR EACH ROW",
    "events_reject_truncate": "BEFORE TRUNCATE ON events FOR EACH STATEMENT",
}

# The table is named with its schema, or a temporary one of its name would be asked.
_REJECT = " ".join(
    (
        "CREATE FUNCTION reject_event_change() RETURNS trigger LANGUAGE plpgsql AS",
        "$$ DECLARE is_archived boolean; BEGIN",
        "IF TG_OP = 'DELETE' THEN EXECUTE format(",
        "'SELECT EXISTS (SELECT 1 FROM %I.streams WHERE experiment_id = $1 AND archive_uri IS NOT NULL)',",
        "TG_TABLE_SCHEMA) INTO is_archived USING OLD.experiment_id; IF is_archived THEN RETURN OLD; END IF; END IF;",
        f"RAISE EXCEPTION '{IMMUTABLE}'; END $$",
    )
)
_POSTGRESQL_DDL = [
    "ALTER TABLE events ADD CONSTRAINT pk_events PRIMARY KEY (experiment_id, position)",
    _REJECT,
    *(
        f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION reject_event_change()"
        for name, when in POSTGRESQL_TRIGGERS.items()
    ),
    # Otherwise a session with session_replication_role = replica would pass them by.
    *(f"ALTER TABLE events ENABLE ALWAYS TRIGGER {name}" for name in POSTGRESQL_TRIGGERS),
    # A partition has the triggers for rows of what it is a part of, and nothing else.
    f"""DO $$
DECLARE part text;
BEGIN
    FOR number IN 0..{PARTITION_COUNT - 1} LOOP
        part := 'events_' || lpad(number::text, 2, '0');
        EXECUTE 'CREATE TABLE ' || part || ' PARTITION OF events'
            || ' FOR VALUES WITH (MODULUS {PARTITION_COUNT}, REMAINDER ' || number || ')';
        EXECUTE 'ALTER TABLE ' || part || ' ENABLE ALWAYS TRIGGER events_reject_change';
        EXECUTE 'CREATE TRIGGER events_reject_truncate BEFORE TRUNCATE ON ' || part
            || ' FOR EACH STATEMENT EXECUTE FUNCTION reject_event_change()';
        EXECUTE 'ALTER TABLE ' || part || ' ENABLE ALWAYS TRIGGER events_reject_truncate';
    END LOOP;
END $$""",
]
for _statement in _POSTGRESQL_DDL:
    event.listen(events, "after_create", DDL(_statement.replace("%", "%%")).execute_if(dialect="postgresql"))
event.listen(
    events,
    "after_drop",
    DDL("DROP FUNCTION IF EXISTS reject_event_change()").execute_if(dialect="postgresql"),
)

"""The PostgreSQL roles of a deployment: who may do what in its database, as data and as SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from quota.domain.events import RECORDER_EVENTS, CheckpointRestored, EvictionCancelled
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import SettingsRefused
from quota.eventlog.tables import checkpoint_locations, events, heartbeats, leases, streams
from quota.projections.tables import (
    DEPLOYMENT_TABLES,
    EXPERIMENT_TABLES,
    flags,
    losses,
    projected_streams,
    rung_snapshots,
)
from quota.projections.view_columns import VIEW_COLUMNS

DEFAULT_PREFIX = "ckpt_quota"
_PREFIX = re.compile("[a-z][a-z0-9_]{0,49}")

REVISION_TABLE = "alembic_version"
TRIGGER_FUNCTION = "reject_event_change()"

RESCUE_EVENTS = (EvictionCancelled.TYPE, CheckpointRestored.TYPE)
"""What a resume records that finds its checkpoint claimed, or in the trash. The rest are a tuner's own events."""


class Role(Enum):
    """What somebody is to this deployment."""

    OWNER = "owner"
    """Owns all tables and views; nobody runs as it. Whoever migrates is a member."""
    RECORDER = "recorder"
    """Appends what tuners do, through the library."""
    OPERATOR = "operator"
    """Sweeps, restores, rebuilds, and says what the stores and limits are."""
    AUDITOR = "auditor"
    """Reads all there is, and writes nothing."""


WORKING_ROLES = (Role.RECORDER, Role.OPERATOR, Role.AUDITOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """What a role may do with a table or a view.

    Attributes:
        role: Who.
        on: The table or view.
        privileges: By PostgreSQL's words, those of some columns with these in parentheses.
    """

    role: Role
    on: str
    privileges: tuple[str, ...]


# The database gives an event's global position; of a stream only its head ever changes.
_INSERT_EVENT = f"INSERT ({', '.join(column.name for column in events.c if column.name != 'global_position')})"
_OPEN_STREAM = "INSERT (experiment_id, position, hash)"
_MOVE_HEAD = "UPDATE (position, hash, recorded_at)"
_APPEND = {
    events.name: ("SELECT", _INSERT_EVENT),
    streams.name: ("SELECT", _OPEN_STREAM, _MOVE_HEAD),
    checkpoint_locations.name: ("SELECT", "INSERT"),
    REVISION_TABLE: ("SELECT",),
}
_PROJECTIONS = tuple(
    table.name for table in (projected_streams, *EXPERIMENT_TABLES, rung_snapshots, *DEPLOYMENT_TABLES)
)
_NEVER_LOADED = {flags.name, losses.name}
"""Written by the fold and read by views alone."""

RIGHTS: dict[Role, dict[str, tuple[str, ...]]] = {
    Role.RECORDER: {
        **_APPEND,
        # A state is loaded from its rows, and what is newer is folded into it in memory.
        **{name: ("SELECT",) for name in _PROJECTIONS if name not in _NEVER_LOADED},
    },
    Role.OPERATOR: {
        **_APPEND,
        **dict.fromkeys(_PROJECTIONS, ("SELECT", "INSERT", "UPDATE", "DELETE")),
        leases.name: ("SELECT", "INSERT", "UPDATE"),
        heartbeats.name: ("SELECT", "INSERT", "UPDATE", "DELETE"),
        **dict.fromkeys(VIEW_COLUMNS, ("SELECT",)),
    },
    Role.AUDITOR: dict.fromkeys((*_APPEND, *_PROJECTIONS, leases.name, heartbeats.name, *VIEW_COLUMNS), ("SELECT",)),
}
"""By role, what it may do with each table and view."""


def rights() -> Iterator[Right]:
    """Yield what each role may do, one table or view after the other."""
    for role, by_name in RIGHTS.items():
        for name, privileges in by_name.items():
            yield Right(role=role, on=name, privileges=privileges)


@dataclass(frozen=True, slots=True)
class RoleNames:
    """The roles' names in their cluster, which other deployments share.

    Attributes:
        prefix: What they begin with.
    """

    prefix: str

    @classmethod
    def of(cls, prefix: str) -> RoleNames:
        """Check a prefix.

        Raises:
            SettingsRefused: a role's name cannot begin like that.
        """
        if _PREFIX.fullmatch(prefix) is None:
            reason = "use lower-case letters, digits and `_`, a letter first, at most 50 in all; e.g. team_a"
            raise SettingsRefused("roles", "prefix", prefix, reason)
        return cls(prefix)

    def __getitem__(self, role: Role) -> str:
        return f"{self.prefix}_{role.value}"

    def all(self) -> list[str]:
        """Return all four names."""
        return [self[role] for role in Role]


def roles_sql(names: RoleNames, *, database: str, schema: str, relations: Iterable[str]) -> list[str]:
    """Return the statements that make the roles and give them their rights; once more, they change nothing.

    Args:
        names: The roles.
        database: The database's name, quoted where it has to be.
        schema: Its schema's, likewise.
        relations: All tables and views of ours in that schema, which the owner is to own.
    """
    return [
        *(_made(names[role]) for role in Role),
        *_entered(names, database, schema),
        _owned(names[Role.OWNER], schema, sorted(relations)),
        *_granted(names, schema),
        *_guarded(names),
    ]


def _made(name: str) -> str:
    return (
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN "
        f"CREATE ROLE {name} NOLOGIN; END IF; END $$"
    )


def _entered(names: RoleNames, database: str, schema: str) -> Iterator[str]:
    """Let the roles in, and nobody else; the owner makes tables."""
    owner, everyone = names[Role.OWNER], ", ".join(names.all())
    yield f"REVOKE ALL ON DATABASE {database} FROM PUBLIC"
    yield f"GRANT CONNECT ON DATABASE {database} TO {everyone}"
    yield f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC"
    yield f"GRANT USAGE ON SCHEMA {schema} TO {everyone}"
    yield f"GRANT CREATE ON SCHEMA {schema} TO {owner}"
    # Who is no superuser gives tables only to a role that it could become.
    yield (f"DO $$ BEGIN IF NOT pg_has_role('{owner}', 'USAGE') THEN GRANT {owner} TO CURRENT_USER; END IF; END $$")
    yield f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"


def _owned(owner: str, schema: str, relations: Sequence[str]) -> str:
    """Give to the owner what is another's: only that, for it waits for whoever uses a table."""
    listed = ", ".join(f"'{name}'" for name in relations)
    return (
        "DO $$ DECLARE relation regclass; BEGIN\n"  # noqa: S608 - names of ours, checked or quoted
        f"    FOR relation IN SELECT oid FROM pg_class WHERE relnamespace = '{schema}'::regnamespace\n"
        f"        AND relowner <> '{owner}'::regrole AND relname IN ({listed})\n"
        f"    LOOP EXECUTE format('ALTER TABLE %s OWNER TO {owner}', relation); END LOOP;\n"
        f"    ALTER FUNCTION {schema}.{TRIGGER_FUNCTION} OWNER TO {owner};\n"
        "END $$"
    )


def _granted(names: RoleNames, schema: str) -> Iterator[str]:
    """Take all rights away first: what somebody has added by hand is gone afterwards."""
    others = ", ".join(["PUBLIC", *(names[role] for role in WORKING_ROLES)])
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        yield f"REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {others}"
    for right in rights():
        yield f"GRANT {', '.join(right.privileges)} ON {schema}.{right.on} TO {names[right.role]}"


def _guarded(names: RoleNames) -> Iterator[str]:
    """Keep recorders from saying what operators say: the log takes from each role what that may say, and no more."""
    recorder, operator, auditor = (names[role] for role in WORKING_ROLES)
    types = ", ".join(f"'{name}'" for name in (*RECORDER_EVENTS, *RESCUE_EVENTS))
    is_experiments = f"experiment_id <> '{DEPLOYMENT_STREAM}'"
    for table in (events.name, streams.name):
        policies = {
            f"{names.prefix}_read": f"FOR SELECT TO {recorder}, {operator}, {auditor} USING (true)",
            f"{names.prefix}_operate": f"FOR INSERT TO {operator} WITH CHECK (true)",
            f"{names.prefix}_record": f"FOR INSERT TO {recorder} WITH CHECK ({is_experiments}"
            + (f" AND type IN ({types}))" if table == events.name else ")"),
        }
        if table == streams.name:
            policies[f"{names.prefix}_move"] = f"FOR UPDATE TO {operator} USING (true)"
            policies[f"{names.prefix}_append"] = f"FOR UPDATE TO {recorder} USING ({is_experiments})"
        yield (
            "DO $$ DECLARE policy name; BEGIN\n"  # noqa: S608 - a name of ours
            f"    FOR policy IN SELECT polname FROM pg_policy WHERE polrelid = '{table}'::regclass\n"
            f"    LOOP EXECUTE format('DROP POLICY %I ON {table}', policy); END LOOP;\n"
            "END $$"
        )
        yield from (f"CREATE POLICY {name} ON {table} {said}" for name, said in policies.items())
        yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"

"""A deployment on PostgreSQL with its roles, a user in each, and what each of them tries in SQL."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from quota.eventlog.database import Database
from quota.services.granting import Granter
from quota.services.migrating import upgrade
from quota.services.roles import Role, RoleNames, rights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import PostgresqlServer

ALLOWED = "allowed"
NO_ROW = "no row"
"""It is no error, and nothing was changed: the row is not this role's to change."""
DENIED = "42501"
"""insufficient_privilege"""
TRIGGER = "P0001"
"""raise_exception: events are never changed"""

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class RoledDeployment:
    """A migrated database with roles.

    Attributes:
        admin_url: Connects as a superuser.
        names: The roles.
        urls: Connects as a user who is a member of a role, and of nothing else.
    """

    admin_url: str
    names: RoleNames
    urls: dict[Role, str]


@contextmanager
def roled_deployment(server: PostgresqlServer) -> Iterator[RoledDeployment]:
    names = RoleNames.of(f"tried_{next(_NUMBERS)}")
    users = {role: f"{names[role]}_user" for role in Role}
    try:
        with server.database() as url:
            with_database(url, upgrade)
            with_database(url, lambda database: Granter(database).grant(names.prefix))
            urls = {}
            for role, user in users.items():
                administer(url, f"CREATE ROLE {user} LOGIN", f"GRANT {names[role]} TO {user}")
                urls[role] = as_user(url, user)
            yield RoledDeployment(url, names, urls)
    finally:
        for name in (*users.values(), *names.all()):
            administer(server.admin_url, f"DROP ROLE IF EXISTS {name}")


def with_database(url: str, work: object) -> None:
    assert callable(work)
    database = Database(url)
    try:
        work(database)
    finally:
        database.close()


def as_user(url: str, user: str) -> str:
    return sa.make_url(url).set(username=user).render_as_string(hide_password=False)


def administer(url: str, *statements: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))


def attempted(connection: sa.Connection, statement: str) -> str:
    """Try a statement, undo it, and tell what PostgreSQL said: `allowed`, or its code for why not."""
    try:
        result = connection.exec_driver_sql(statement.replace("%", "%%"))
    except DBAPIError as error:
        return str(getattr(error.orig, "sqlstate", error))
    else:
        is_change = statement.startswith(("UPDATE", "DELETE"))
        return NO_ROW if is_change and result.rowcount == 0 else ALLOWED
    finally:
        connection.rollback()


@dataclass(frozen=True)
class Attempt:
    """What somebody tries, and what PostgreSQL says to each role."""

    what: str
    statement: str
    recorder: str
    operator: str
    auditor: str
    owner: str

    def expected(self, role: Role) -> str:
        found: str = getattr(self, role.value)
        return found


def _event(experiment_id: str, kind: str, position: int = 1_000, more: tuple[str, str] = ("", "")) -> str:
    columns = "experiment_id, position, event_id, type, schema_version, occurred_at, recorded_at, actor, data, hash"
    values = f"'{experiment_id}', {position}, gen_random_uuid(), '{kind}', 1, now(), now(), 'x', '{{}}', '\\x00'"
    given, override = more
    if given:
        return f"INSERT INTO events (global_position, {columns}) {override} VALUES ({given}, {values})"
    return f"INSERT INTO events ({columns}) VALUES ({values})"


A, D, N, T = ALLOWED, DENIED, NO_ROW, TRIGGER
_LIMIT = "INSERT INTO limits VALUES ('deployment', 'bytes', 2, 1, now(), 'x')"
_LOCATION = "INSERT INTO checkpoint_locations VALUES ('file:///x/', 'x', '1')"
_FUNCTION = (
    "CREATE OR REPLACE FUNCTION reject_event_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
)
_VIEWS = "SELECT * FROM eviction_history"
_DEPLOYMENTS_HEAD = "UPDATE streams SET hash = hash WHERE experiment_id = '_deployment'"
_TRIGGER = "CREATE TRIGGER another BEFORE INSERT ON events EXECUTE FUNCTION reject_event_change()"
_FORCED = ("9999", "OVERRIDING SYSTEM VALUE")

# What is tried, and then the answers to recorder, operator, auditor and owner. The events of `x` are in events_15.
ATTEMPTS = [
    Attempt("read the log", "SELECT * FROM events", A, A, A, A),
    Attempt("append a tuner's event", _event("x", "trial_started"), A, A, D, A),
    Attempt("append a decision to evict", _event("x", "eviction_decided"), D, A, D, A),
    Attempt("append an operator's event", _event("_deployment", "store_added"), D, A, D, A),
    Attempt("choose an event's global position", _event("x", "trial_started", more=_FORCED), D, D, D, A),
    Attempt("change an event", "UPDATE events SET actor = 'x'", D, D, D, T),
    Attempt("delete an event", "DELETE FROM events WHERE position = 1", D, D, D, T),
    Attempt("empty the log", "TRUNCATE events", D, D, D, T),
    Attempt("read a partition of the log", "SELECT * FROM events_00", D, D, D, A),
    Attempt("change a partition", "UPDATE events_15 SET actor = 'x'", D, D, D, T),
    Attempt("delete from a partition", "DELETE FROM events_15", D, D, D, T),
    Attempt("empty a partition", "TRUNCATE events_00", D, D, D, T),
    Attempt("detach a partition", "ALTER TABLE events DETACH PARTITION events_00", D, D, D, A),
    Attempt("drop a trigger", "DROP TRIGGER events_reject_change ON events", D, D, D, A),
    Attempt("disable a trigger", "ALTER TABLE events DISABLE TRIGGER events_reject_change", D, D, D, A),
    Attempt("replace what the triggers do", _FUNCTION, D, D, D, A),
    Attempt("pass the triggers by", "SET session_replication_role = replica", D, D, D, D),
    Attempt("disable the policies", "ALTER TABLE events DISABLE ROW LEVEL SECURITY", D, D, D, A),
    Attempt("drop the log", "DROP TABLE events CASCADE", D, D, D, A),
    Attempt("keep all others from the log", "LOCK TABLE events IN ACCESS EXCLUSIVE MODE", D, D, D, A),
    Attempt("number events anew", "SELECT setval('events_global_position_seq', 1)", D, D, D, A),
    Attempt("move an experiment's head", "UPDATE streams SET hash = hash WHERE experiment_id = 'x'", A, A, D, A),
    Attempt("move the deployment's head", _DEPLOYMENTS_HEAD, N, A, D, A),
    Attempt("rename a stream", "UPDATE streams SET experiment_id = 'y' WHERE experiment_id = 'x'", D, D, D, A),
    Attempt("delete a head", "DELETE FROM streams WHERE experiment_id = 'x'", D, D, D, A),
    Attempt("take a location", _LOCATION, A, A, D, A),
    Attempt("give a location up", "DELETE FROM checkpoint_locations", D, D, D, A),
    Attempt("read decisions", "SELECT * FROM decisions", A, A, A, A),
    Attempt("change a decision's row", "UPDATE decisions SET outcome = 'purged'", D, A, D, A),
    Attempt("delete a decision's row", "DELETE FROM decisions", D, A, D, A),
    Attempt("empty the decisions", "TRUNCATE decisions", D, D, D, A),
    Attempt("set a limit's row", _LIMIT, D, A, D, A),
    Attempt("remove a store's row", "DELETE FROM stores", D, A, D, A),
    Attempt("take the sweeper's lease", "UPDATE leases SET token = token + 1", D, A, D, A),
    Attempt("forget a daemon", "DELETE FROM heartbeats WHERE holder = 'x'", D, N, D, N),
    Attempt("read the auditors' views", _VIEWS, D, A, A, A),
    Attempt("read what resumes have lost", "SELECT * FROM losses", D, A, A, A),
    Attempt("read who sweeps", "SELECT * FROM leases", D, A, A, A),
    Attempt("change the schema's revision", "UPDATE alembic_version SET version_num = '9'", D, D, D, A),
    Attempt("make a table", "CREATE TABLE another (id int)", D, D, D, A),
    Attempt("make a temporary table", "CREATE TEMPORARY TABLE events (id int)", D, D, D, D),
    Attempt("make a trigger", _TRIGGER, D, D, D, A),
    Attempt("run a program on the server", "COPY events TO PROGRAM 'cat'", D, D, D, D),
    Attempt("make a role", "CREATE ROLE another", D, D, D, D),
    Attempt("hold the lock for locations", "SELECT pg_advisory_xact_lock(487301543009)", A, A, A, A),
]  # fmt: skip


def roles_table() -> str:
    """Return the table of attempts for docs/roles.md."""
    lines = ["| what is tried | recorder | operator | auditor | owner |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {one.what}: `{_short(one.statement)}` | {one.recorder} | {one.operator} | {one.auditor} | {one.owner} |"
        for one in ATTEMPTS
    ]
    return "\n".join(lines)


def rights_table() -> str:
    """Return the table of what is granted for docs/roles.md."""
    alike: dict[tuple[str, str], list[str]] = {}
    for right in rights():
        alike.setdefault((right.role.value, ", ".join(right.privileges)), []).append(f"`{right.on}`")
    lines = ["| role | may | on |", "| --- | --- | --- |"]
    lines += [f"| {role} | {privileges} | {', '.join(names)} |" for (role, privileges), names in alike.items()]
    return "\n".join(lines)


def _short(statement: str, most: int = 76) -> str:
    return statement if len(statement) <= most else f"{statement[: most - 1]}…"

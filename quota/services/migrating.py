"""Bringing a database's schema to another revision."""

from __future__ import annotations

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from quota.eventlog.database import Database
from quota.eventlog.schema import require_ours

MIGRATIONS = "quota_migrations:"
"""Named as a package, so that they are found in a wheel as in a checkout."""

_LOCK = 0x6D6967726174  # "migrat"

_OWNER = text("""
SELECT rolname FROM pg_class JOIN pg_roles r ON r.oid = relowner
WHERE pg_class.oid = to_regclass('events') AND NOT rolcanlogin AND pg_has_role(relowner, 'MEMBER')
""")
"""The group that owns the tables, where `ckpt-quota db roles` has made one and this user is in it."""


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to `revision`, in one transaction. Two processes at once do no harm.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
        SchemaMismatch: it holds tables of something else.
    """
    with database.read() as connection:
        require_ours(database, connection)
    _run(database, lambda config: command.upgrade(config, revision))


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to `revision`, in one transaction; `base` removes everything, the log included.

    Raises:
        DatabaseUnavailable: the database cannot be reached.
    """
    _run(database, lambda config: command.downgrade(config, revision))


def _run(database: Database, step: Callable[[Config], None]) -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            _become_owner(connection)
        config.attributes["connection"] = connection
        step(config)


def _become_owner(connection: Connection) -> None:
    """Make what is made now the owner's, as everything else is: later migrations may be another member's."""
    owner = connection.execute(_OWNER).scalar()
    if owner is not None:
        connection.exec_driver_sql(f"SET LOCAL ROLE {connection.dialect.identifier_preparer.quote(owner)}")

"""Which schema a database has, told without loading Alembic."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

from quota.errors import SchemaMismatch
from quota.eventlog.database import Database

HEAD_REVISION = "0001"
"""The revision that this version of the software works with; the last one in `quota_migrations`."""

REVISIONS = ("0001",)
"""All revisions that it knows, oldest first."""


def current_revision(connection: Connection) -> str | None:
    """Return the revision of a database's schema; None where it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def require_ours(database: Database, connection: Connection) -> None:
    """Check that a database without a schema of ours holds nothing else.

    Raises:
        SchemaMismatch: it holds tables, and no revision.
    """
    others = set(inspect(connection).get_table_names()) - {"alembic_version"}
    if current_revision(connection) is None and others:
        raise SchemaMismatch(
            f"database {database.url}: it holds tables of something else; give checkpoint-quota a database of its own"
        )


def require_there(database: Database) -> None:
    """Check that a SQLite database has a file, which merely connecting to it would make.

    Raises:
        SchemaMismatch: there is none.
    """
    if database.path is not None and not database.path.exists():
        raise SchemaMismatch(f"database {database.url}: there is none; make it with: {_upgrade_of(database)}")


def _upgrade_of(database: Database) -> str:
    return f"ckpt-quota db upgrade --database {database.url}"


def require_head(database: Database) -> None:
    """Check that a database's schema is the one that this version works with.

    Raises:
        SchemaMismatch: it is not; the message says which command to run.
        DatabaseUnavailable: there is no such database.
    """
    require_there(database)
    command = _upgrade_of(database)
    with database.read() as connection:
        revision = current_revision(connection)
        require_ours(database, connection)
    if revision == HEAD_REVISION:
        return
    if revision is None:
        raise SchemaMismatch(f"database {database.url}: it is empty; make it ready with: {command}")
    if revision in REVISIONS:
        raise SchemaMismatch(
            f"database {database.url}: its schema is older ({revision}) than this software ({HEAD_REVISION}); "
            f"bring it up with: {command}"
        )
    raise SchemaMismatch(
        f"database {database.url}: its schema ({revision}) is newer than this software ({HEAD_REVISION}); "
        "upgrade the software: pip install -U checkpoint-quota"
    )

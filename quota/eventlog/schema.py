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


def require_head(database: Database) -> None:
    """Check that a database's schema is the one that this version works with.

    Raises:
        SchemaMismatch: it is not; the message says which command to run.
        DatabaseUnavailable: there is no such database.
    """
    if database.path is not None and not database.path.exists():
        raise SchemaMismatch(f"database {database.url}: there is none; make it with: ckpt-quota db upgrade")
    with database.read() as connection:
        revision = current_revision(connection)
    if revision == HEAD_REVISION:
        return
    if revision is None:
        raise SchemaMismatch(f"database {database.url}: it is empty; make it ready with: ckpt-quota db upgrade")
    if revision in REVISIONS:
        raise SchemaMismatch(
            f"database {database.url}: its schema is older ({revision}) than this software ({HEAD_REVISION}); "
            "bring it up with: ckpt-quota db upgrade"
        )
    raise SchemaMismatch(
        f"database {database.url}: its schema ({revision}) is newer than this software ({HEAD_REVISION}); "
        "upgrade the software: pip install -U checkpoint-quota"
    )

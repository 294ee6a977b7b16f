"""How Alembic runs the migrations: on the connection that it is given, or on a database of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from alembic import context

from quota.eventlog.database import Database
from quota.eventlog.tables import metadata
from quota.projections import tables, views
from quota_migrations.comparing import left_out

if TYPE_CHECKING:
    from sqlalchemy import Connection

REGISTERED = (tables, views)
"""Importing these is what puts their tables into the metadata."""


def run(connection: Connection) -> None:
    """Run the migrations in the connection's transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        transactional_ddl=True,
        **left_out(connection.dialect.name),
    )
    with context.begin_transaction():
        context.run_migrations()


def database_url() -> str:
    """Return the database to work on: `alembic -x database=URL`, or QUOTA_DATABASE."""
    given = context.get_x_argument(as_dictionary=True).get("database")
    return given or os.environ.get("QUOTA_DATABASE") or "sqlite:///quota.db"


def main() -> None:
    """Find the connection, and run."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        run(connection)
        return
    database = Database(database_url())
    try:
        with database.write() as own:
            run(own)
    finally:
        database.close()


main()

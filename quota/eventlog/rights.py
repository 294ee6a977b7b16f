"""What the user may do as whom a process has connected; on SQLite, whatever the file's permissions say."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

_RIGHTS = text("""
SELECT current_user AS name, rolsuper AS is_superuser,
       pg_has_role((SELECT relowner FROM pg_class WHERE oid = CAST('events' AS regclass)), 'USAGE') AS owns_events,
       has_any_column_privilege('events', 'INSERT') AS appends,
       has_table_privilege('projected_streams', 'INSERT') AS writes_projections
FROM pg_roles WHERE rolname = current_user
""")


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user of PostgreSQL may do.

    Attributes:
        name: The user.
        is_superuser: Whether nothing is kept from it.
        owns_events: Whether the table of events is its own, or of a role that it is a member of.
        appends: Whether it may append events.
        writes_projections: Whether it may bring the projections up to date.
    """

    name: str
    is_superuser: bool
    owns_events: bool
    appends: bool
    writes_projections: bool


def rights_of(connection: Connection) -> Rights | None:
    """Return what this user may do; None on SQLite."""
    if connection.dialect.name == "sqlite":
        return None
    return Rights(**connection.execute(_RIGHTS).mappings().one())


def who_may_not_project(connection: Connection) -> str | None:
    """Return the user's name if it may not write the projections; None where it may."""
    rights = rights_of(connection)
    return None if rights is None or rights.writes_projections else rights.name

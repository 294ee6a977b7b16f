"""Making the PostgreSQL roles of a deployment."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, inspect, text

from quota.errors import NotPermitted, SchemaMismatch, SettingsRefused
from quota.eventlog.database import Database
from quota.eventlog.schema import HEAD_REVISION, current_revision
from quota.eventlog.tables import PARTITIONS, metadata
from quota.projections.view_columns import VIEW_COLUMNS
from quota.services.roles import REVISION_TABLE, Role, RoleNames, roles_sql

_SELF = text("""
SELECT current_user AS name, current_database() AS database, current_schema() AS schema,
       pg_has_role(datdba, 'USAGE') AS owns_database
FROM pg_database WHERE datname = current_database()
""")

_USERS = text(
    "SELECT rolname FROM pg_roles WHERE rolname IN :names AND (rolcanlogin OR rolsuper) ORDER BY 1"
).bindparams(bindparam("names", expanding=True))

_OTHER_OWNER = text("""
SELECT rolname FROM pg_class JOIN pg_roles r ON r.oid = relowner
WHERE pg_class.oid = CAST('events' AS regclass) AND NOT rolcanlogin AND NOT rolsuper AND rolname <> :owner
""")

_ELSEWHERE = text("""
SELECT DISTINCT r.rolname, d.datname
FROM pg_shdepend s
JOIN pg_roles r ON r.oid = s.refobjid AND s.refclassid = CAST('pg_authid' AS regclass)
JOIN pg_database d ON d.oid = s.dbid OR s.classid = CAST('pg_database' AS regclass) AND s.objid = d.oid
WHERE r.rolname IN :names AND d.datname <> current_database()
ORDER BY 1, 2
""").bindparams(bindparam("names", expanding=True))
"""Roles belong to the whole cluster: what they own or may do in its other databases."""


@dataclass(frozen=True, slots=True)
class Grants:
    """What makes the roles of one database.

    Attributes:
        names: The roles.
        statements: SQL, in order.
    """

    names: RoleNames
    statements: tuple[str, ...]


class Granter:
    """Makes roles, or says how.

    Args:
        database: Where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, prefix: str) -> Grants:
        """Return what `grant` would do.

        Raises:
            SettingsRefused: the database is SQLite, which has no roles, or the prefix is refused or another's.
            SchemaMismatch: the database's schema is not this version's.
        """
        names = self._names(prefix)
        with self._database.read() as connection:
            return self._looked(connection, names)

    def grant(self, prefix: str) -> Grants:
        """Make the roles that are missing, and give all of them just their rights, in one transaction.

        Raises:
            SettingsRefused: as for `look`.
            SchemaMismatch: as for `look`.
            NotPermitted: this user may not do that.
        """
        names = self._names(prefix)
        with self._database.write() as connection:
            grants = self._looked(connection, names)
            own = connection.execute(_SELF).one()
            if not own.owns_database:
                # Without this PostgreSQL would warn that it revokes nothing, and go on.
                raise NotPermitted(
                    f"database {self._database.url}: user {own.name} neither owns it nor is a superuser; connect as "
                    "one of these, or print the SQL for somebody who may: ckpt-quota db roles --sql"
                )
            for statement in grants.statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))
        return grants

    def _names(self, prefix: str) -> RoleNames:
        if self._database.is_sqlite:
            reason = (
                "SQLite has no roles: whoever may write the file may do everything in it; give its directory to the "
                "one user who records and sweeps (chmod 700), and auditors a copy of it (see docs/roles.md)"
            )
            raise SettingsRefused("roles", "database", self._database.url, reason)
        return RoleNames.of(prefix)

    def _looked(self, connection: Connection, names: RoleNames) -> Grants:
        if current_revision(connection) != HEAD_REVISION:
            raise SchemaMismatch(
                f"database {self._database.url}: its schema is not this version's; first: "
                f"ckpt-quota db upgrade --database {self._database.url}"
            )
        self._require_ours(connection, names)
        own = connection.execute(_SELF).one()
        quote = inspect(connection).dialect.identifier_preparer.quote
        statements = roles_sql(
            names,
            database=quote(own.database),
            schema=quote(own.schema),
            relations=[*metadata.tables, *PARTITIONS, *VIEW_COLUMNS, REVISION_TABLE],
        )
        return Grants(names, tuple(statements))

    @staticmethod
    def _require_ours(connection: Connection, names: RoleNames) -> None:
        advice = "give this deployment roles of its own: --prefix NAME"
        users = list(connection.execute(_USERS, {"names": names.all()}).scalars())
        if users:
            reason = f"{users[0]} is a user who can log in, or a superuser, and no group; {advice}"
            raise SettingsRefused("roles", "prefix", names.prefix, reason)
        other = connection.execute(_OTHER_OWNER, {"owner": names[Role.OWNER]}).scalar()
        if other is not None:
            reason = (
                f"the tables are {other}'s: give the prefix of that, or first rename its roles (ALTER ROLE … RENAME)"
            )
            raise SettingsRefused("roles", "prefix", names.prefix, reason)
        elsewhere = connection.execute(_ELSEWHERE, {"names": names.all()}).first()
        if elsewhere is not None:
            reason = f"{elsewhere.rolname} has rights in database {elsewhere.datname} of the same cluster; {advice}"
            raise SettingsRefused("roles", "prefix", names.prefix, reason)

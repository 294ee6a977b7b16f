"""Each role of PostgreSQL may do what it needs, and PostgreSQL itself refuses the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from quota.errors import NotPermitted, SchemaMismatch, SettingsRefused
from quota.eventlog.database import Database
from quota.eventlog.tables import metadata
from quota.projections.view_columns import VIEW_COLUMNS
from quota.services.granting import Granter
from quota.services.migrating import upgrade
from quota.services.roles import RIGHTS, Role
from roles import (
    ALLOWED,
    ATTEMPTS,
    DENIED,
    Attempt,
    RoledDeployment,
    administer,
    as_user,
    attempted,
    roled_deployment,
    with_database,
)
from sweeps import KEEP, sweeps_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config

    from servers import PostgresqlServer

ACLS = """
    SELECT 'relation', relname, relowner::regrole::text, array_to_string(relacl, ' '), relrowsecurity::text
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'column', attrelid::regclass::text, attname, array_to_string(attacl, ' '), ''
    FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid >= 16384
    UNION ALL SELECT 'schema', nspname, '', array_to_string(nspacl, ' '), '' FROM pg_namespace WHERE nspname = 'public'
    UNION ALL SELECT 'database', '', '', array_to_string(datacl, ' '), '' FROM pg_database
    WHERE datname = current_database()
    UNION ALL SELECT 'function', proname, proowner::regrole::text, array_to_string(proacl, ' '), ''
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'policy', tablename, policyname, concat(roles, cmd, qual, with_check), '' FROM pg_policies
    ORDER BY 1, 2, 3
"""


@pytest.fixture(scope="module")
def deployment(postgresql_server: PostgresqlServer) -> Iterator[RoledDeployment]:
    """One with an experiment `x`, of which a checkpoint was evicted."""
    with roled_deployment(postgresql_server) as made:
        with sweeps_over(made.urls[Role.OPERATOR]) as sweeps:
            sweeps.prepare(3, high=2, low=2)
            assert sweeps.sweep(KEEP).tally.evicted == 1
        yield made


@pytest.fixture(scope="module")
def connections(deployment: RoledDeployment) -> Iterator[dict[Role, sa.Connection]]:
    engines = {role: sa.create_engine(url) for role, url in deployment.urls.items()}
    opened = {role: engine.connect() for role, engine in engines.items()}
    yield opened
    for role, engine in engines.items():
        opened[role].close()
        engine.dispose()


def acls(url: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(ACLS))]


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.what)
def test_what_each_role_tries(connections: dict[Role, sa.Connection], attempt: Attempt, role: Role) -> None:
    assert attempted(connections[role], attempt.statement) == attempt.expected(role)


@pytest.mark.parametrize("role", [Role.RECORDER, Role.OPERATOR, Role.AUDITOR], ids=lambda role: role.value)
def test_it_may_read_just_what_it_is_granted(
    connections: dict[Role, sa.Connection], deployment: RoledDeployment, role: Role
) -> None:
    connection = connections[role]
    with sa.create_engine(deployment.admin_url, poolclass=sa.NullPool).connect() as admin:
        names = admin.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
        )
        everything = set(names.scalars())
    readable = {name for name in everything if attempted(connection, f"SELECT * FROM {name} LIMIT 1") == ALLOWED}
    assert readable == set(RIGHTS[role])


@pytest.mark.parametrize("role", [Role.RECORDER, Role.OPERATOR, Role.AUDITOR], ids=lambda role: role.value)
def test_it_cannot_become_another_role(
    connections: dict[Role, sa.Connection], deployment: RoledDeployment, role: Role
) -> None:
    for other in set(Role) - {role}:
        assert attempted(connections[role], f"SET ROLE {deployment.names[other]}") == DENIED


def test_nobody_else_may_even_connect(deployment: RoledDeployment) -> None:
    stranger = f"{deployment.names.prefix}_stranger"
    administer(deployment.admin_url, f"CREATE ROLE {stranger} LOGIN")
    try:
        engine = sa.create_engine(as_user(deployment.admin_url, stranger), poolclass=sa.NullPool)
        with pytest.raises(OperationalError, match="permission denied for database"):
            engine.connect()
    finally:
        administer(deployment.admin_url, f"DROP ROLE {stranger}")


def test_nobody_can_log_in_as_a_role(deployment: RoledDeployment) -> None:
    for name in deployment.names.all():
        engine = sa.create_engine(as_user(deployment.admin_url, name), poolclass=sa.NullPool)
        with pytest.raises(OperationalError, match="is not permitted to log in"):
            engine.connect()


def test_granting_again_changes_nothing_and_takes_back_what_was_added(deployment: RoledDeployment) -> None:
    before = acls(deployment.admin_url)
    recorder = deployment.names[Role.RECORDER]
    administer(
        deployment.admin_url,
        f"GRANT UPDATE, DELETE ON events TO {recorder}",
        f"GRANT UPDATE (data) ON events TO {recorder}",
        "GRANT SELECT ON events TO PUBLIC",
        f"CREATE POLICY more ON events FOR INSERT TO {recorder} WITH CHECK (true)",
    )
    assert acls(deployment.admin_url) != before
    with_database(deployment.admin_url, lambda database: Granter(database).grant(deployment.names.prefix))
    assert acls(deployment.admin_url) == before


def test_the_sql_does_by_hand_what_the_command_does(deployment: RoledDeployment) -> None:
    before = acls(deployment.admin_url)
    database = Database(deployment.admin_url)
    statements = Granter(database).look(deployment.names.prefix).statements
    database.close()
    assert acls(deployment.admin_url) == before
    administer(deployment.admin_url, *statements)
    assert acls(deployment.admin_url) == before


def test_what_a_member_migrates_is_the_owners(deployment: RoledDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    def newer(config: Config, _revision: str) -> None:
        config.attributes["connection"].exec_driver_sql("CREATE TABLE newer (id int)")

    monkeypatch.setattr("quota.services.migrating.command.upgrade", newer)
    with_database(deployment.urls[Role.OWNER], upgrade)
    owners = {row[2] for row in acls(deployment.admin_url) if row[0] in {"relation", "function"}}
    administer(deployment.admin_url, "DROP TABLE newer")
    assert owners == {deployment.names[Role.OWNER]}


def test_whoever_may_not_is_told(deployment: RoledDeployment) -> None:
    for role in (Role.RECORDER, Role.OPERATOR, Role.AUDITOR, Role.OWNER):
        database = Database(deployment.urls[role])
        with pytest.raises(NotPermitted, match=r"neither owns it nor is a superuser; .* ckpt-quota db roles --sql"):
            Granter(database).grant(deployment.names.prefix)
        database.close()


def test_a_plain_owner_of_the_database_who_may_make_roles_needs_no_superuser(
    postgresql_server: PostgresqlServer,
) -> None:
    admin = "plain_admin"
    with postgresql_server.database() as url:
        name = sa.make_url(url).database
        administer(url, f"CREATE ROLE {admin} LOGIN CREATEROLE", f"ALTER DATABASE {name} OWNER TO {admin}")
        own_url = as_user(url, admin)
        with_database(own_url, upgrade)
        for _ in range(2):
            with_database(own_url, lambda database: Granter(database).grant("plain"))
        # Who migrates is a member of the owner, and what is made next is the owner's.
        with_database(own_url, upgrade)
        assert {row[2] for row in acls(url) if row[0] == "relation"} == {"plain_owner"}
    administer(postgresql_server.admin_url, *(f"DROP ROLE plain_{role.value}" for role in Role), f"DROP ROLE {admin}")


def test_deployments_do_not_share_roles(postgresql_server: PostgresqlServer, deployment: RoledDeployment) -> None:
    with postgresql_server.database() as url:
        with_database(url, upgrade)
        database = Database(url)
        with pytest.raises(SettingsRefused, match=r"has rights in database .* roles of its own: --prefix NAME"):
            Granter(database).grant(deployment.names.prefix)
        database.close()


def test_a_deployment_has_roles_of_one_prefix(deployment: RoledDeployment) -> None:
    database = Database(deployment.admin_url)
    owner = deployment.names[Role.OWNER]
    with pytest.raises(SettingsRefused, match=f"the tables are {owner}'s: give the prefix of that"):
        Granter(database).grant("others")
    database.close()


def test_a_user_is_no_role(deployment: RoledDeployment) -> None:
    administer(deployment.admin_url, "CREATE ROLE taken_auditor LOGIN")
    database = Database(deployment.admin_url)
    with pytest.raises(SettingsRefused, match="taken_auditor is a user who can log in"):
        Granter(database).grant("taken")
    database.close()
    administer(deployment.admin_url, "DROP ROLE taken_auditor")


@pytest.mark.parametrize("prefix", ["", "A", "1a", "a-b", 'a"; DROP TABLE events; --', "x" * 51])
def test_a_prefix_that_is_none(deployment: RoledDeployment, prefix: str) -> None:
    database = Database(deployment.admin_url)
    with pytest.raises(SettingsRefused, match="lower-case letters"):
        Granter(database).grant(prefix)
    database.close()


def test_an_empty_database_is_migrated_first(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    with pytest.raises(SchemaMismatch, match="first: ckpt-quota db upgrade"):
        Granter(database).grant("empty")
    database.close()


def test_sqlite_has_no_roles(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    upgrade(database)
    with pytest.raises(SettingsRefused, match="SQLite has no roles: whoever may write the file"):
        Granter(database).look("any")
    database.close()


def test_every_table_and_view_is_an_auditors() -> None:
    on_sqlite_only = {"clock_readings"}
    assert set(RIGHTS[Role.AUDITOR]) == {*metadata.tables, *VIEW_COLUMNS, "alembic_version"} - on_sqlite_only

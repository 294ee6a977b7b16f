"""The servers that the other tests stand on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import sqlalchemy.exc

import servers
from servers import PostgresqlServer, template_for

OWNER = """
import sys, servers
with servers.running_postgresql() as server:
    print(server.admin_url, flush=True)
    sys.stdin.read()
"""


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def table_names(url: str) -> list[str]:
    return sa.inspect(sa.create_engine(url, poolclass=sa.NullPool)).get_table_names()


def test_the_server_is_a_postgresql_that_the_product_supports(postgresql_url: str) -> None:
    [(version,)] = execute(postgresql_url, "SELECT current_setting('server_version_num')::int")
    assert isinstance(version, int)
    assert version >= 150000


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_commits_are_as_durable_as_in_production(postgresql_url: str, setting: str) -> None:
    assert execute(postgresql_url, f"SHOW {setting}") == [("on",)]


def test_there_is_room_for_many_processes(postgresql_url: str) -> None:
    [(connections,)] = execute(postgresql_url, "SELECT current_setting('max_connections')::int")
    assert isinstance(connections, int)
    assert connections >= 100


def test_the_zone_of_the_server_is_not_utc(postgresql_url: str) -> None:
    assert execute(postgresql_url, "SHOW timezone") == [("Asia/Kolkata",)]


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_database(database_url: str, turn: int) -> None:
    assert table_names(database_url) == []
    execute(database_url, f"CREATE TABLE left_by_{turn} (id int)")


def test_databases_that_exist_together_are_separate(postgresql_server: PostgresqlServer) -> None:
    with postgresql_server.database() as one, postgresql_server.database() as other:
        execute(one, "CREATE TABLE here (id int)")
        assert table_names(one) == ["here"]
        assert table_names(other) == []


def test_a_lent_database_is_dropped_even_while_in_use(postgresql_server: PostgresqlServer) -> None:
    with postgresql_server.database() as url:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        connection = engine.connect()
    with pytest.raises(sqlalchemy.exc.OperationalError):
        connection.execute(sa.text("SELECT 1"))
    connection.close()
    with pytest.raises(sqlalchemy.exc.OperationalError, match="does not exist"):
        engine.connect()


def test_each_copy_starts_with_the_rows_of_its_template(postgresql_server: PostgresqlServer) -> None:
    def prepare(url: str) -> None:
        execute(url, "CREATE TABLE filled AS SELECT 1 AS id")

    template = template_for(postgresql_server, prepare)
    with postgresql_server.database(template=template) as first:
        execute(first, "INSERT INTO filled VALUES (2)")
    with postgresql_server.database(template=template) as second:
        assert execute(second, "SELECT id FROM filled") == [(1,)]


def test_a_server_ends_when_its_owner_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(servers.__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip().replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            owner.send_signal(signal.SIGKILL)
            # A server that stops says goodbye on each of its connections.
            readable, _, _ = select.select([connection], [], [], 30)
            assert readable
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")

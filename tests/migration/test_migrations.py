"""Migrating gives what the tables say, on both databases, up and down."""

from __future__ import annotations

import multiprocessing
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from quota.errors import SchemaMismatch
from quota.eventlog.database import Database
from quota.eventlog.schema import HEAD_REVISION, REVISIONS, current_revision, require_head
from quota.eventlog.tables import metadata
from quota.projections.view_columns import VIEW_COLUMNS
from quota.services.migrating import MIGRATIONS, downgrade, upgrade
from quota_migrations.comparing import left_out
from support import create_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

    from sqlalchemy import Connection

    from servers import PostgresqlServer

SQLITE_OBJECTS = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
POSTGRESQL_OBJECTS = """
    SELECT 'column', table_name || '.' || column_name, concat_ws(' ', ordinal_position, data_type, is_nullable,
           column_default, is_identity, identity_generation, collation_name)
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
              WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', concat(tgrelid::regclass, '.', tgname), concat(pg_get_triggerdef(oid), tgenabled)
              FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'partition', relname, pg_get_expr(relpartbound, oid) FROM pg_class
              WHERE relnamespace = 'public'::regnamespace AND relispartition AND relkind = 'r'
    UNION ALL SELECT 'key', partrelid::regclass::text, pg_get_partkeydef(partrelid) FROM pg_partitioned_table
    UNION ALL SELECT 'view', viewname, definition FROM pg_views WHERE schemaname = 'public'
    UNION ALL SELECT 'function', proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'comment', concat(c.relname, '.', d.objsubid), d.description
              FROM pg_description d JOIN pg_class c ON c.oid = d.objoid
              WHERE c.relnamespace = 'public'::regnamespace
    ORDER BY 1, 2
"""


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def objects(connection: Connection) -> list[tuple[str, ...]]:
    query = SQLITE_OBJECTS if connection.dialect.name == "sqlite" else POSTGRESQL_OBJECTS
    found = [tuple(re.sub(r"\s+", " ", str(part)) for part in row) for row in connection.execute(text(query))]
    return [row for row in found if not any("alembic_version" in part for part in row)]


@pytest.fixture
def other_url(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[str]:
    """A second empty database of the same kind."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'other.db'}"
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    with server.database() as url:
        yield url


def test_migrating_makes_what_the_tables_say(database_url: str, other_url: str) -> None:
    create_schema(other_url)
    with opened(database_url) as migrated, opened(other_url) as created:
        upgrade(migrated)
        with migrated.read() as one, created.read() as other:
            assert objects(one) == objects(other)
            assert len(objects(one)) > len(metadata.tables)


def test_autogenerate_finds_nothing_to_do(database_url: str) -> None:
    with opened(database_url) as database:
        upgrade(database)
        with database.write() as connection:
            options = {"compare_type": True, **left_out(connection.dialect.name)}
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, metadata) == []


def test_downgrade_leaves_nothing_and_can_be_undone(database_url: str) -> None:
    with opened(database_url) as database:
        upgrade(database)
        with database.read() as connection:
            before = objects(connection)
        downgrade(database, "base")
        with database.read() as connection:
            assert objects(connection) == []
        upgrade(database)
        with database.read() as connection:
            assert objects(connection) == before


def test_known_revisions_are_those_of_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == HEAD_REVISION
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(REVISIONS)


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    with opened(database_url) as database:
        upgrade(database)
        upgrade(database)
        require_head(database)


def test_missing_or_empty_database_says_what_to_run(database_url: str) -> None:
    with (
        opened(database_url) as database,
        pytest.raises(SchemaMismatch, match="with: ckpt-quota db upgrade"),
    ):
        require_head(database)


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("0000", r"its schema \(0000\) is newer than this software \(\d+\); upgrade the software"),
        ("9999", r"its schema \(9999\) is newer than this software \(\d+\); upgrade the software"),
    ],
)
def test_unknown_revision_asks_for_newer_software(database_url: str, revision: str, message: str) -> None:
    with opened(database_url) as database:
        upgrade(database)
        with database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        with pytest.raises(SchemaMismatch, match=message):
            require_head(database)


def test_older_revision_asks_for_an_upgrade(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(database_url) as database:
        upgrade(database)
        monkeypatch.setattr("quota.eventlog.schema.HEAD_REVISION", "0002")
        with pytest.raises(SchemaMismatch, match=r"older \(0001\) than this software \(0002\); bring it up with: ckpt"):
            require_head(database)


def _upgrade_when_told(url: str, barrier: Barrier) -> None:
    database = Database(url)
    barrier.wait()
    upgrade(database)
    database.close()


def test_processes_that_upgrade_at_once_do_no_harm(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_upgrade_when_told, args=(database_url, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with opened(database_url) as database, database.read() as connection:
        assert current_revision(connection) == HEAD_REVISION


def test_every_view_column_is_documented(database_url: str) -> None:
    create_schema(database_url)
    with opened(database_url) as database, database.read() as connection:
        inspector = inspect(connection)
        views = {
            name: [column["name"] for column in inspector.get_columns(name)] for name in inspector.get_view_names()
        }
    assert {name: sorted(columns) for name, columns in views.items()} == {
        name: sorted(columns) for name, columns in VIEW_COLUMNS.items()
    }

"""What every session with a database is set to, whatever the server's own settings say."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, make_url, text

from quota.eventlog.database import Database


def set_for_all_sessions(url: str, name: str, value: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f'ALTER DATABASE "{make_url(url).database}" SET {name} = {value}'))
    engine.dispose()


@pytest.mark.parametrize(("server_says", "ours"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
def test_postgresql_commits_at_least_durably(postgresql_url: str, server_says: str, ours: str) -> None:
    set_for_all_sessions(postgresql_url, "synchronous_commit", server_says)
    database = Database(postgresql_url)
    for _ in range(2):
        with database.write() as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == ours
    database.close()


def test_postgresql_speaks_utc(postgresql_url: str) -> None:
    set_for_all_sessions(postgresql_url, "timezone", "'Pacific/Kiritimati'")
    database = Database(postgresql_url)
    for transaction in (database.write, database.read):
        with transaction() as connection:
            assert connection.execute(text("SHOW timezone")).scalar() == "UTC"
    database.close()


def test_sqlite_commits_durably(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.write() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA mmap_size")).scalar() in {0, None}
    database.close()

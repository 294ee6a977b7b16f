"""What every session with a database is set to, whatever the server's own settings say."""

from __future__ import annotations

from contextlib import ExitStack, closing

import psycopg
import pysqlite3
import pytest
from sqlalchemy import create_engine, make_url, text

from quota.errors import DatabaseUnavailable
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from support import create_schema
from unprivileged import public_folder, unprivileged


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


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_file_that_is_no_longer_there_is_not_gone_on_with(sqlite_url: str, *, is_replaced: bool) -> None:
    create_schema(sqlite_url)
    with closing(Database(sqlite_url)) as database:
        path = database.path
        assert path is not None
        for transaction in (database.read, database.write):
            with transaction():
                pass
        if is_replaced:
            path.with_name("backup").write_bytes(path.read_bytes())
            path.with_name("backup").replace(path)
        else:
            path.unlink()
        for transaction in (database.read, database.write):
            with pytest.raises(DatabaseUnavailable, match="start this process anew"), transaction():
                pass
    with closing(Database(sqlite_url)) as database:
        for transaction in (database.read, database.write):
            with transaction():
                pass


def test_postgresql_ends_what_hangs(postgresql_url: str) -> None:
    with closing(Database(postgresql_url)) as database, database.write() as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "1min"
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "5min"


def test_what_the_server_is_set_to_already_is_left(postgresql_url: str) -> None:
    set_for_all_sessions(postgresql_url, "lock_timeout", "'7s'")
    with closing(Database(postgresql_url)) as database, database.write() as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "7s"


def test_a_writer_that_waits_too_long_says_so(postgresql_url: str) -> None:
    create_schema(postgresql_url)
    set_for_all_sessions(postgresql_url, "lock_timeout", "'50ms'")
    with (
        closing(Database(postgresql_url)) as first,
        closing(Database(postgresql_url)) as second,
        EventLog(first).locked(["x"]),
        pytest.raises(DatabaseUnavailable, match="if it was stopped or hangs, continue or end it, then try again"),
        EventLog(second).locked(["x"]),
    ):
        pytest.fail("two hold one lock")


def test_a_recorder_that_says_nothing_keeps_nobody_waiting(postgresql_url: str) -> None:
    create_schema(postgresql_url)
    set_for_all_sessions(postgresql_url, "idle_in_transaction_session_timeout", "'50ms'")

    def freeze(frozen: Database, other: Database) -> None:
        with EventLog(frozen).locked(["x"]) as streams:
            with EventLog(other).locked(["x"]):
                pass
            EventLog(frozen).position(streams["x"].connection, "x")

    with closing(Database(postgresql_url)) as frozen, closing(Database(postgresql_url)) as other:
        with pytest.raises(DatabaseUnavailable):
            freeze(frozen, other)
        with EventLog(frozen).locked(["x"]):
            pass


def test_more_threads_than_connections_are_told_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create_schema(database_url)
    monkeypatch.setattr("quota.eventlog.database._BUSY_TIMEOUT_SECONDS", 0.05)
    with closing(Database(database_url)) as database, ExitStack() as held:
        refused = None
        for _ in range(1_000):
            try:
                held.enter_context(database.read())
            except DatabaseUnavailable as error:
                refused = str(error)
                break
    assert refused is not None
    assert "this process has used all of its connections" in refused


def test_a_server_that_went_away_is_noticed(postgresql_url: str) -> None:
    url = make_url(postgresql_url).update_query_dict({"keepalives_count": "9"}).render_as_string(hide_password=False)
    with closing(Database(url)) as database, database.read() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        asked_for = driver.info.get_parameters()
    assert {name: asked_for[name] for name in ("connect_timeout", "tcp_user_timeout", "keepalives_count")} == {
        "connect_timeout": "10",
        "tcp_user_timeout": "60000",
        "keepalives_count": "9",
    }


def test_a_new_database_that_another_process_makes_ready_is_waited_for(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same library as ours: within one process two of them do not see each other's locks.
    path = make_url(sqlite_url).database
    other = pysqlite3.connect(path, isolation_level=None)  # pyright: ignore[reportAttributeAccessIssue]
    other.execute("CREATE TABLE something (number INTEGER)")
    other.execute("BEGIN EXCLUSIVE")
    looks = iter([0.0])

    def look_at_the_clock() -> float:
        moment = next(looks, None)
        if moment is None and other.in_transaction:
            other.execute("COMMIT")
        return moment or 0.0

    monkeypatch.setattr("quota.eventlog.database.monotonic", look_at_the_clock)
    monkeypatch.setattr("quota.eventlog.database._BUSY_TIMEOUT_SECONDS", 0.05)
    with closing(other), closing(Database(sqlite_url)) as database, database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM something")).scalar() == 0


def test_whoever_may_not_write_beside_a_sqlite_database_is_told_that_even_reading_needs_it() -> None:
    with public_folder() as folder:
        create_schema(f"sqlite:///{folder}/quota.db")
        (folder / "quota.db-turn").chmod(0o444)
        folder.chmod(0o555)
        with unprivileged(), closing(Database(f"sqlite:///{folder}/quota.db")) as database:
            with pytest.raises(DatabaseUnavailable, match="even to read it SQLite has to write"), database.read():
                pass
            told = f"Permission denied: {folder}/quota.db-turn; run as the user whom the database belongs to"
            with pytest.raises(DatabaseUnavailable, match=told), database.write():
                pass

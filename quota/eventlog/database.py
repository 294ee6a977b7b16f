"""Opening a database, and the two kinds of transactions: reading from a snapshot, and writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pysqlite3
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from quota.errors import DatabaseUnavailable, NotPermitted
from quota.eventlog.database_urls import parse_url, sqlite_path
from quota.eventlog.turns import taken

_BUSY_TIMEOUT_SECONDS = 60
"""For how long a writer waits for another one; what it says then can be sent again."""

_IDLE_TIMEOUT_SECONDS = 300
"""After how long a server ends a transaction of a process that says nothing (it was frozen, say), and its locks. Within
one, a resume may wait for a store that gives a checkpoint back."""

_SESSION_TIMEOUTS = {
    "lock_timeout": _BUSY_TIMEOUT_SECONDS,
    "idle_in_transaction_session_timeout": _IDLE_TIMEOUT_SECONDS,
}
_LOCK_NOT_AVAILABLE = "55P03"
_INSUFFICIENT_PRIVILEGE = "42501"

_CONNECTION_OPTIONS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""By which a server that went away without a word is noticed within about a minute, where the system's own settings
take hours. Seconds, but for the last one, which is milliseconds; a URL may say otherwise."""

NAMES_A_QUERY = 500
"""How many values one statement compares with: databases allow many more, and plan for them badly."""


class Database:
    """An open database.

    Args:
        url: SQLAlchemy URL: `sqlite:///quota.db` or `postgresql+psycopg://user@host/name`.

    Raises:
        SettingsRefused: the URL is none of these, or names a SQLite file on a network file system.
        DatabaseUnavailable: the driver is missing.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        self._is_closed = False
        self._file: tuple[int, int] | None = None
        # As people write it: which module of Python serves SQLite is our affair, and a relative path is theirs.
        self.url = make_url(url).render_as_string(hide_password=True)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self.path = sqlite_path(parsed)
            self._writer = _sqlite_engine(parsed, query_only=False)
            self._reader = _sqlite_engine(parsed, query_only=True)
            return
        self.path = None
        try:
            self._writer = _postgresql_engine(parsed)
        except ModuleNotFoundError as error:
            raise DatabaseUnavailable(
                f"database {self.url}: the driver {error.name} is missing; "
                "install it with: pip install 'checkpoint-quota[postgresql]'"
            ) from error
        self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a read-only connection that sees one moment of the database throughout.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        with self._translated(), self._connected(self._reader) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction, committed on leaving, rolled back on an exception.

        On SQLite it holds the only write lock; writers wait their turn in order of arrival.

        Raises:
            DatabaseUnavailable: the database cannot be reached or written to.
            NotPermitted: it does not let this user do that.
        """
        with self._translated(), self._turn(), self._connected(self._writer) as connection, connection.begin():
            yield connection

    def now(self, connection: Connection) -> datetime:
        """Return the time by the database's clock: the host's on SQLite, the server's on PostgreSQL."""
        if self.is_sqlite:
            return datetime.now(UTC)
        moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)

    def server_version(self) -> str:
        """Return the name and version of the database's engine."""
        query = "SELECT sqlite_version()" if self.is_sqlite else "SHOW server_version"
        with self.read() as connection:
            version = connection.execute(text(query)).scalar_one()
        return f"{'SQLite' if self.is_sqlite else 'PostgreSQL'} {version}"

    def close(self) -> None:
        """Close all connections; what is asked of it afterwards is refused."""
        self._is_closed = True
        self._writer.dispose()
        self._reader.dispose()

    def _connected(self, engine: Engine) -> Connection:
        try:
            connection = engine.connect()
        except DBAPIError as error:
            # Whatever a driver calls it: what is wrong is the URL, or the server.
            raise DatabaseUnavailable(f"database {self.url}: {_reason(error)}") from error
        except PoolTimeout as error:
            raise DatabaseUnavailable(
                f"database {self.url}: this process has used all of its connections for {_BUSY_TIMEOUT_SECONDS} s; use "
                "fewer threads, or look what the database waits for"
            ) from error
        try:
            self._require_same_file()
        except BaseException:
            connection.close()
            raise
        return connection

    def _require_same_file(self) -> None:
        """Check that nobody has put another file in place of the one that this process has open.

        What is written to a file that has no name any more is lost, and what it says is no longer so.
        """
        if self.path is None:
            return
        try:
            status = self.path.stat()
        except FileNotFoundError as error:
            raise DatabaseUnavailable(
                f"database {self.url}: its file is gone; restore it from a backup, then start this process anew"
            ) from error
        identity = (status.st_dev, status.st_ino)
        if self._file is None:
            self._file = identity
        elif self._file != identity:
            raise DatabaseUnavailable(
                f"database {self.url}: another file was put in its place since this process opened it; start this "
                "process anew"
            )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Queue for SQLite's write lock. Its own busy wait polls, and starves whoever polls at the wrong time."""
        if self.path is None:
            yield
            return
        with taken(Path(f"{self.path}-turn"), _BUSY_TIMEOUT_SECONDS) as holder:
            if holder is not None:
                raise DatabaseUnavailable(
                    f"database {self.url}: {holder} has been writing for {_BUSY_TIMEOUT_SECONDS} s; "
                    "if it was stopped or hangs, continue or end it"
                )
            yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self._is_closed:
            raise DatabaseUnavailable(f"database {self.url}: it was closed; connect to it again")
        try:
            yield
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
                advice = "connect as a user who may, or have its role granted; see docs/roles.md"
                raise NotPermitted(f"database {self.url}: {_reason(error)}; {advice}") from error
            if not _is_of_the_database(error):
                raise
            raise DatabaseUnavailable(f"database {self.url}: {_reason(error)}") from error
        except UnicodeDecodeError as error:
            raise DatabaseUnavailable(f"database {self.url}: it holds text that is none; it is damaged") from error
        except OSError as error:
            if error.filename is None or self.path is None or not str(error.filename).startswith(str(self.path)):
                raise
            said = f"{error.strerror}: {error.filename}; run as the user whom the database belongs to"
            raise DatabaseUnavailable(f"database {self.url}: {said}") from error


def _is_of_the_database(error: DBAPIError) -> bool:
    """Tell whether an error is the database's state, and not a statement's fault, which is ours.

    PostgreSQL ends the session of a process that was frozen in a transaction by an `InternalError`; which classes of
    codes mean a connection, a transaction, resources or an operator is said in its manual, appendix A.
    """
    if error.connection_invalidated or isinstance(error, OperationalError) or type(error) is DatabaseError:
        return True
    code = getattr(error.orig, "sqlstate", None) or ""
    return code[:2] in {"08", "25", "40", "53", "57", "58"}


def _reason(error: DBAPIError) -> str:
    """Return what the driver said in its first line, and what to do about it where that is known."""
    said = (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]
    if "unable to open" in said:
        return f"{said}; is there such a directory, and may this user write there?"
    if "readonly database" in said:
        return f"{said}; even to read it SQLite has to write beside it and into it: run as a user who may"
    if "is full" in said or "disk I/O" in said:
        return f"{said}; free some space on its disk, and keep the database on another one than the checkpoints"
    if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
        return (
            f"{said}: another process has been writing for longer than that; if it was stopped or hangs, continue or "
            "end it, then try again"
        )
    if type(error) is DatabaseError:
        return f"{said}; look whether this is the right file, and restore it from a backup if so"
    return said


def _postgresql_engine(url: URL) -> Engine:
    options = {name: value for name, value in _CONNECTION_OPTIONS.items() if name not in url.query}
    engine = create_engine(url, connect_args=options, pool_timeout=_BUSY_TIMEOUT_SECONDS)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own class
        with connection.cursor() as cursor:
            # Near the ends of the calendar a time cannot be read in another zone.
            cursor.execute("SET TIME ZONE 'UTC'")
            for name, seconds in _SESSION_TIMEOUTS.items():
                cursor.execute(
                    "SELECT set_config(%s, %s, false) WHERE current_setting(%s) = '0'", (name, f"{seconds}s", name)
                )
            # With less, a crash can lose the intent of a deletion that has happened.
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
            )
        connection.commit()

    return engine


def _use_wal(connection: Any) -> None:  # noqa: ANN401 - the driver's own class
    """Switch to a write-ahead log, which SQLite refuses without waiting while another process does the same."""
    deadline = monotonic() + _BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except connection.OperationalError as error:
            if "locked" not in str(error) or monotonic() > deadline:
                raise
            with suppress(connection.OperationalError):
                # This does wait for the other one.
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        else:
            return


def _sqlite_engine(url: URL, *, query_only: bool) -> Engine:
    engine = create_engine(
        url, module=pysqlite3, connect_args={"timeout": _BUSY_TIMEOUT_SECONDS}, pool_timeout=_BUSY_TIMEOUT_SECONDS
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own class
        # The driver is not to begin transactions by itself: it would begin them deferred.
        connection.isolation_level = None
        _use_wal(connection)
        # With NORMAL a power cut can lose the intent of a deletion that has happened.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA recursive_triggers = ON")
        connection.execute("PRAGMA mmap_size = 0")
        if query_only:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred begin of a writer fails when another writes in between.
        connection.exec_driver_sql("BEGIN DEFERRED" if query_only else "BEGIN IMMEDIATE")

    return engine

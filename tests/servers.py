"""Real database servers for the tests, started from wheels."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GUARDIAN = Path(__file__).with_name("postgresql_guardian.py")


@dataclass(frozen=True)
class PostgresqlServer:
    """A running server; every URL it hands out is in SQLAlchemy's form."""

    admin_url: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    def create_database(self, *, template: str | None = None) -> str:
        """Create a database, empty or a copy of `template` (see `template_for`), and return its URL."""
        name = f"test_{next(self._numbers)}"
        # Without a template of our own: template0, which nothing can have been added to.
        self._administer(f'CREATE DATABASE "{name}" TEMPLATE "{template or "template0"}"')
        return sa.make_url(self.admin_url).set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        """Drop the database at `url`, whoever is still connected to it."""
        self._administer(f'DROP DATABASE "{sa.make_url(url).database}" WITH (FORCE)')

    @contextmanager
    def database(self, *, template: str | None = None) -> Iterator[str]:
        """Lend the URL of a new database that is dropped afterwards."""
        url = self.create_database(template=template)
        try:
            yield url
        finally:
            self.drop_database(url)

    def _administer(self, statement: str) -> None:
        engine = sa.create_engine(self.admin_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text(statement))


def template_for(server: PostgresqlServer, prepare: Callable[[str], None]) -> str:
    """Create a database, let `prepare` fill it, and return its name for `create_database(template=...)`.

    `prepare` gets the URL and must leave no connection open: a database in use cannot be copied.
    """
    url = server.create_database()
    prepare(url)
    name = sa.make_url(url).database
    assert name is not None
    return name


@contextmanager
def running_postgresql() -> Iterator[PostgresqlServer]:
    """Run a server of one's own; it ends with the block, or with this process."""
    # A server whose zone is not UTC shows where a time lost its zone. The locale is fixed, for not every
    # machine has the one that its environment names.
    environment = {**os.environ, "TZ": "Asia/Kolkata", "LC_ALL": "C"}
    with subprocess.Popen(
        [sys.executable, str(_GUARDIAN)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        # Ctrl-C reaches the tests alone, which then end their server in good order.
        start_new_session=True,
    ) as guardian:
        assert guardian.stdout is not None
        uri = guardian.stdout.readline().strip()
        if not uri:
            raise RuntimeError("PostgreSQL did not start; its error is on standard error")
        url = sa.make_url(uri).set(drivername="postgresql+psycopg")
        try:
            yield PostgresqlServer(admin_url=url.render_as_string(hide_password=False))
        finally:
            # Said in so many words, as a forked child may still hold the pipe open.
            guardian.communicate("stop\n")
    if guardian.returncode != 0:
        raise RuntimeError(f"the PostgreSQL guardian ended with {guardian.returncode}")

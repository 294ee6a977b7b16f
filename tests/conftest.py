"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import hypothesis
import pytest

from s3_servers import Kind, S3Server, running_s3
from servers import PostgresqlServer, running_postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The same examples on every run, so that a failure belongs to the change at hand. To look further: pytest
# --hypothesis-profile=explore, as often as one likes.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2_000, print_blob=True)
hypothesis.settings.load_profile("same")

_IN_MEMORY = "/dev/shm"  # noqa: S108 - a file system, and no fixed name in it


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Keep a developer's own QUOTA_DATABASE from being what a test deletes from."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("QUOTA_"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """One server a worker: it is up in a second, and workers then share nothing."""
    with running_postgresql() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with postgresql_server.database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> Iterator[str]:
    """The URL of an SQLite database that does not exist yet; in memory where the machine has a file system there.

    Processes are killed here, and never the machine, so that nothing has to reach a disk.
    """
    if not os.access(_IN_MEMORY, os.W_OK):
        yield f"sqlite:///{tmp_path / 'quota.db'}"
        return
    with tempfile.TemporaryDirectory(prefix="quota-", dir=_IN_MEMORY) as directory:
        yield f"sqlite:///{directory}/quota.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of each kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server a worker: it is up in a few seconds, and workers then share nothing."""
    with running_s3() as server:
        yield server


@pytest.fixture(scope="session")
def s3_buckets(s3_server: S3Server) -> dict[Kind, str]:
    """A bucket of each kind, which tests share: each works below a prefix of its own."""
    return {"versioned": s3_server.create_bucket("versioned"), "unversioned": s3_server.create_bucket("unversioned")}


@pytest.fixture
def s3_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stores find the server by environment variables, as an operator would."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    # A session reads what boto3 knows of S3 anew, which takes longer than most tests do.
    monkeypatch.setattr("quota_s3.clients._session", lambda: s3_server.session)

"""Take a fresh database up, down and up again, and compare the result with the tables in the code."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa

from servers import running_postgresql

_ROOT = Path(__file__).resolve().parents[1]
_BIN = Path(sys.executable).parent


def _run(url: str, *command: str) -> None:
    sys.stdout.write(f"$ {' '.join(command)}\n")
    sys.stdout.flush()
    program, *arguments = command
    environment = {**os.environ, "QUOTA_DATABASE": url}
    subprocess.run([_BIN / program, *arguments], check=True, cwd=_ROOT, env=environment)


def _names(url: str) -> set[str]:
    """Return the names of all that migrations can make, each with its kind."""
    url_parts = sa.make_url(url)
    if url_parts.get_backend_name() == "sqlite":
        query = "SELECT type || ' ' || name FROM sqlite_master"
    else:
        query = """
            SELECT 'relation ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
            UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT 'type ' || typname FROM pg_type
            WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
        """
    with sa.create_engine(url_parts, poolclass=sa.NullPool).connect() as connection:
        return set(connection.execute(sa.text(query)).scalars())


def _check(url: str) -> None:
    _run(url, "ckpt-quota", "db", "upgrade")
    made = _names(url)
    _run(url, "alembic", "check")
    _run(url, "alembic", "downgrade", "base")
    left = {name for name in _names(url) if "alembic_version" not in name and "sqlite_sequence" not in name}
    if left:
        sys.exit(f"the downgrade left behind: {', '.join(sorted(left))}")
    _run(url, "alembic", "upgrade", "head")
    if _names(url) != made:
        sys.exit(f"the second upgrade made something else: {', '.join(sorted(_names(url) ^ made))}")


def main() -> None:
    """Check both kinds of database."""
    with tempfile.TemporaryDirectory() as folder:
        _check(f"sqlite:///{folder}/quota.db")
    with running_postgresql() as server, server.database() as url:
        _check(url)


if __name__ == "__main__":
    main()

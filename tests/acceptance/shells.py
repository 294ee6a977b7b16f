"""Runs commands as a shell and a terminal do."""

from __future__ import annotations

import os
import subprocess
import sys
import termios
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def in_shell(folder: Path, redirection: str, *arguments: str | bytes, **environment: str) -> tuple[int, str]:
    """Run a command with its streams as the shell is told; returns its exit code and what it said."""
    words = [sys.executable, "-m", "quota.cli", *arguments]
    run = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *words],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    said = (run.stdout + run.stderr).decode(errors="replace")
    assert "Traceback" not in said
    assert "fault of ours" not in said
    return run.returncode, said


def in_terminal(folder: Path, columns: int, *arguments: str) -> tuple[int, str]:
    """Run a command that writes to a terminal; returns its exit code and what it said."""
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (25, columns))
    sized = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    with subprocess.Popen(
        [sys.executable, "-m", "quota.cli", *arguments],
        cwd=folder,
        env=sized | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
    ) as run:
        os.close(its)
        said = b"".join(_read(ours))
        os.close(ours)
    return run.returncode, said.decode()


def _read(terminal: int) -> Iterator[bytes]:
    # Once nobody has its other end any more, Linux says EIO, other systems that it is at its end.
    with suppress(OSError):
        while part := os.read(terminal, 65_536):
            yield part

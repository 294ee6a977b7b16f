"""What benchmarks of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
import time

QUOTA = [sys.executable, "-m", "quota.cli"]


def run(*arguments: str) -> None:
    """Run a command of ours."""
    subprocess.run([*QUOTA, *arguments], check=True, capture_output=True)


def timed(command: list[str]) -> tuple[float, int]:
    """Return the seconds that a command took, and its peak memory in kilobytes."""
    before = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.monotonic() - before, used.ru_maxrss

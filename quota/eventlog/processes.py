"""Telling whether a process of this host has ended, so that nobody waits for the dead."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def boot_id() -> str:
    """Return what names this boot of this host.

    Raises:
        OSError: the system does not tell.
    """
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def this_process() -> str | None:
    """Return what names this process among all that ever ran on any host; None where the system does not tell."""
    try:
        return f"{_place()} {os.getpid()} {_started(os.getpid())}"
    except OSError:
        return None


def pid_of(process: str | None) -> int | None:
    """Return the process id of what `this_process` named, as its own host counts; None where that is not known."""
    parts = [] if process is None else process.rsplit(" ", 2)
    return int(parts[1]) if len(parts) == len(("place", "pid", "started")) else None


def has_ended(process: str | None) -> bool:
    """Tell whether a process that `this_process` named has ended for sure; of other hosts nothing is known."""
    if process is None:
        return False
    place, pid, started = process.rsplit(" ", 2)
    try:
        if place != _place():
            return False
    except OSError:
        return False
    try:
        return _started(int(pid)) != started
    except FileNotFoundError:
        return not _is_hidden(int(pid))
    except OSError:
        return False


def _is_hidden(pid: int) -> bool:
    """Tell whether there is such a process, of another user, that /proc does not show."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    # A zombie of ours can still be signalled.
    return False


def _place() -> str:
    """Name the boot of this host and, as containers count their processes anew, the namespace."""
    return f"{boot_id()} {(_PROC / 'self/ns/pid').readlink()}"


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot: a number that is used again belongs to another process."""
    after_name = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    # A zombie has ended, though its parent has not asked yet.
    if after_name[0] in {"Z", "X"}:
        raise FileNotFoundError
    return after_name[19]

"""Waiting for one's turn in order of arrival, and not for ever, nor for a process that is stopped."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from time import monotonic

_LOCKS = Path("/proc/locks")
_LOOK_EVERY_SECONDS = 1.0


@contextmanager
def taken(file: Path, longest_seconds: float) -> Iterator[str | None]:
    """Hold a file's lock for a block, and yield None; or yield who holds it, if that takes longer than allowed.

    Where a process has it that was stopped while it waited in the queue, nobody waits for that one: None is yielded
    without the lock, which only keeps an order.

    Raises:
        OSError: the file cannot be opened.
    """
    turn = _Turn(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
    try:
        holder = turn.take(file, longest_seconds)
        yield None if holder is None else holder.name
    finally:
        turn.close()


class _Turn:
    """A lock that is waited for by a thread: nothing else can stop waiting in the system's queue."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._guard = Lock()
        self._is_waiting = False
        self._is_given_up = False

    def take(self, file: Path, longest_seconds: float) -> _Holder | None:
        """Wait for the lock; return who has it, if it was not to be had in time and that one is not stopped."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._is_waiting = True
            waiting = Thread(target=self._wait, daemon=True)
            waiting.start()
            until = monotonic() + longest_seconds
            while waiting.is_alive() and (left := until - monotonic()) > 0:
                waiting.join(min(left, _LOOK_EVERY_SECONDS))
                if waiting.is_alive() and _holder(file).is_stopped:
                    return None
        return _holder(file) if self._is_waiting else None

    def close(self) -> None:
        with self._guard:
            self._is_given_up = True
            if not self._is_waiting:
                os.close(self._fd)

    def _wait(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        with self._guard:
            self._is_waiting = False
            if self._is_given_up:
                os.close(self._fd)


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that holds a lock.

    Attributes:
        name: How a message names it.
        is_stopped: Whether it was stopped by a signal, so that nobody can tell when it goes on.
    """

    name: str = "another process"
    is_stopped: bool = False


def _holder(file: Path) -> _Holder:
    """Return the process that holds a file's lock, as far as the system tells."""
    inode = file.stat().st_ino
    try:
        for line in _LOCKS.read_text().splitlines():
            parts = line.split()
            if "->" not in parts and "FLOCK" in parts and parts[5].endswith(f":{inode}"):
                process = Path(f"/proc/{parts[4]}")
                name = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
                return _Holder(f"process {parts[4]} ({name.strip()[:80]})", is_stopped=state in {"T", "t"})
    except OSError:
        pass
    return _Holder()

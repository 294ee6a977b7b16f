"""Waiting for one's turn in order of arrival, and not for ever."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread

_LOCKS = Path("/proc/locks")


@contextmanager
def taken(file: Path, longest_seconds: float) -> Iterator[str | None]:
    """Hold a file's lock for a block, and yield None; or yield who holds it, if that takes longer than allowed.

    Raises:
        OSError: the file cannot be opened.
    """
    turn = _Turn(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
    try:
        yield None if turn.take(longest_seconds) else _holder(file)
    finally:
        turn.close()


class _Turn:
    """A lock that is waited for by a thread: nothing else can stop waiting in the system's queue."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._guard = Lock()
        self._is_waiting = False
        self._is_given_up = False

    def take(self, longest_seconds: float) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._is_waiting = True
            waiting = Thread(target=self._wait, daemon=True)
            waiting.start()
            waiting.join(longest_seconds)
        return not self._is_waiting

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


def _holder(file: Path) -> str:
    """Name the process that holds a file's lock, as far as the system tells."""
    inode = file.stat().st_ino
    try:
        for line in _LOCKS.read_text().splitlines():
            parts = line.split()
            if "->" not in parts and "FLOCK" in parts and parts[5].endswith(f":{inode}"):
                name = Path(f"/proc/{parts[4]}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                return f"process {parts[4]} ({name.strip()[:80]})"
    except OSError:
        pass
    return "another process"

"""Writers of an SQLite database wait their turn, and not for ever."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from quota.errors import DatabaseUnavailable
from quota.eventlog import database as database_module
from quota.eventlog.database import Database
from quota.eventlog.turns import taken

if TYPE_CHECKING:
    from pathlib import Path


def test_whoever_waits_too_long_is_told_who_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_BUSY_TIMEOUT_SECONDS", 0.01)
    database = Database(f"sqlite:///{tmp_path}/quota.db")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE x (y)"))
    with (tmp_path / "quota.db-turn").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        told = rf"process {os.getpid()} \(.*\) has been writing for"
        with pytest.raises(DatabaseUnavailable, match=told), database.write():
            pass
    monkeypatch.undo()
    with database.write() as connection:
        connection.execute(text("INSERT INTO x VALUES (1)"))
    database.close()


def test_a_turn_that_was_given_up_is_passed_on(tmp_path: Path) -> None:
    turn = tmp_path / "turn"
    with taken(turn, 60) as first:
        assert first is None
        with taken(turn, 0.01) as second:
            assert second is not None
    with taken(turn, 60) as third:
        assert third is None


def test_waiting_ends_with_the_turn(tmp_path: Path) -> None:
    turn, order = tmp_path / "turn", []

    def wait() -> None:
        with taken(turn, 60) as holder:
            order.append(f"second, {holder}")

    with taken(turn, 60):
        waiting = Thread(target=wait)
        waiting.start()
        order.append("first")
    waiting.join()
    assert order == ["first", "second, None"]


HOLDER = """
import fcntl, sys
held = open(sys.argv[1], "a")
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_nobody_waits_for_a_process_that_was_stopped_in_the_queue(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/quota.db")
    turn = tmp_path / "quota.db-turn"
    command = [sys.executable, "-c", HOLDER, str(turn)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
        with database.write() as connection:
            connection.execute(text("CREATE TABLE x (y)"))
        holder.send_signal(signal.SIGCONT)
        holder.communicate(b"")
    with database.write() as connection:
        connection.execute(text("INSERT INTO x VALUES (1)"))
    database.close()

"""Daemons as processes, and what they work on."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import quota
from recomputing import whole_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quota.bootstrap import Services
    from quota.domain.events import RecordedEvent

FAST = ("--sweep-schedule", "1s", "--purge-schedule", "1s", "--catch-up-schedule", "1s", "--trash-retention", "0")
LEASE_TERM = timedelta(seconds=2)
DEADLINE_SECONDS = 90.0
"""After this time without what is waited for, something hangs."""


@dataclass
class Running:
    """A daemon.

    Attributes:
        said: What it was heard to say.
    """

    process: subprocess.Popen[str]
    said: list[dict[str, Any]] = field(default_factory=list)

    def hear(self, part: str) -> dict[str, Any]:
        """Wait until it says something with `part` in it; whoever stays silent for too long is killed."""
        assert self.process.stderr is not None
        watchdog = Timer(DEADLINE_SECONDS, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stderr:
                self.said.append(json.loads(line))
                if part in self.said[-1]["message"]:
                    return self.said[-1]
        finally:
            watchdog.cancel()
        raise AssertionError(f"it ended with {self.ended()} and never said {part!r}")

    def said_at(self, part: str) -> list[datetime]:
        """Return when it was heard to say something with `part` in it."""
        times = [said["time"] for said in self.said if part in said["message"]]
        return [datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) for time in times]

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait until it has ended, and return its exit code."""
        return self.process.wait(DEADLINE_SECONDS)

    def end(self) -> None:
        """Let it end in good order."""
        self.tell(signal.SIGTERM)
        self.hear("ended")
        assert self.ended() == 0


@contextmanager
def daemon(url: str, *options: str, **environment: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "quota.cli", "run", "--database", url, "--log-format", "json", *FAST, *options]
    # What it says has a time without a zone.
    whole = {**os.environ, "QUOTA_LEASE_TERM": f"{LEASE_TERM.seconds}s", "TZ": "UTC", **environment}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=whole) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


@dataclass
class House:
    """A database, a store with paused trials in it, and a limit."""

    url: str
    root: Path
    services: Services

    def pause(self, *trial_ids: str) -> None:
        with quota.connect(self.url) as db:
            experiment = db.register_experiment(
                "x", mode="min", rung_levels=[1, 3], promotion_quantiles=[0.5, 0.5], max_resource=9
            )
            for trial_id in trial_ids:
                place = self.root / trial_id
                place.mkdir()
                for name in ("weights", "optimizer"):
                    (place / name).write_bytes(b"w" * 10)
                experiment.trial_started(trial_id)
                experiment.checkpoint_saved(trial_id, location=place, size_bytes=20, resource=1)
                experiment.trial_paused(trial_id, level=1, metric=float(trial_id))

    def left(self) -> set[str]:
        return {place.name for place in self.root.iterdir()} - {".trash"}

    def events(self, stream: str = "x") -> list[RecordedEvent]:
        return whole_stream(self.services, stream)

    def of_type(self, event_type: str) -> list[Any]:
        """Return what the events of a type say."""
        return [event.payload for event in self.events() if event_type == event.payload.TYPE]

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        with self.services.database.read() as connection:
            return self.services.database.now(connection)


@dataclass
class Hold:
    """Holds the first daemon that comes there in the middle of a call of its store."""

    folder: Path

    def __post_init__(self) -> None:
        os.mkfifo(self.folder / "reached")
        os.mkfifo(self.folder / "go")
        about = self.folder / "holding-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: holding\nVersion: 1\n")
        (about / "entry_points.txt").write_text("[quota.stores]\nfile = acceptance.holding_store:open_store\n")

    def environment(self, held_in: str = "") -> dict[str, str]:
        """Return the variables of daemons that use the store, and of which one is held in a call of it, if any."""
        # What is found first wins: the entry point, before the one that is installed.
        path = os.pathsep.join([str(self.folder), str(Path(__file__).parents[1])])
        return {"PYTHONPATH": path, "HOLD_FOLDER": str(self.folder), "HELD_IN": held_in}

    def wait(self) -> int:
        """Wait until a daemon is held, and return its process id."""
        watchdog = Timer(DEADLINE_SECONDS, self._give_up)
        watchdog.start()
        try:
            reached = (self.folder / "reached").read_text()
        finally:
            watchdog.cancel()
        assert reached, "no daemon came there"
        return int(reached)

    def release(self) -> None:
        """Let it go on."""
        (self.folder / "go").write_text("go")

    def deleted(self) -> list[str]:
        """Return what was deleted, claim by claim and file by file."""
        return (self.folder / "deleted").read_text().splitlines()

    def _give_up(self) -> None:
        # Whoever waits at the other end of a FIFO goes on once this one was opened.
        with (self.folder / "reached").open("w"):
            pass


def freeze(house: House, running: Running) -> None:
    """Stop a process outside of a transaction of SQLite: there it would keep all others from writing, by design."""
    while True:
        running.tell(signal.SIGSTOP)
        os.waitid(os.P_PID, running.process.pid, os.WSTOPPED | os.WNOWAIT)
        if house.services.database.path is None or _is_free(Path(f"{house.services.database.path}-turn")):
            return
        running.tell(signal.SIGCONT)


def _is_free(turn: Path) -> bool:
    with turn.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

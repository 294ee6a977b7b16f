"""A database and a disk or bucket that outlive the processes that work on them, and one such process."""

from __future__ import annotations

import os
import signal
import traceback
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Literal

from crash.faults import Fault
from crash.invariants import broken
from crash.notes import Notes
from crash.points import USUALLY, Way
from crash.refusals import Refusals
from crash.scenario import Scenario, prepare
from quota.bootstrap import SystemClock, assemble
from quota.eventlog.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from crash.media import Medium
    from quota.bootstrap import Services

End = Literal["done", "killed", "broken"]
_BROKEN = 3
_DONE = 0


@dataclass(frozen=True)
class Share:
    """What one process is to do.

    Attributes:
        seed: What its chance is drawn from.
        point: Where it dies; nowhere if it is empty.
        at: Which time it comes there.
        way: What it does mostly.
        actions: How often it acts; for ever where that is None.
        seconds: After which time it dies; never where that is None.
        is_checked: Whether it sees to what its predecessor has left, and whether all holds then, before anything else.
    """

    seed: int
    point: str = ""
    at: int = 0
    way: Way = USUALLY
    actions: int | None = 0
    seconds: float | None = None
    is_checked: bool = True


@dataclass(frozen=True)
class LaterClock:
    """The host's clock, put ahead: what waits for a retry, or is kept for some days, is due a few processes later."""

    by: timedelta

    def now(self) -> datetime:
        return SystemClock().now() + self.by


@dataclass
class Deployment:
    """One of them.

    Attributes:
        url: Its database, which has all tables.
        folder: Where its notes are, and its disk if it has one.
        medium: Where its trials write.
        processes: How many have worked on it.
    """

    url: str
    folder: Path
    medium: Medium
    processes: int = 0

    def __post_init__(self) -> None:
        self.notes = Notes(self.folder)
        in_a_process(self._prepare)

    def run(self, share: Share) -> End:
        """Let a process do its share, and tell how that ended; an error that ends it is one more thing found."""
        self.processes += 1
        return in_a_process(lambda: self._tried(share))

    @property
    def found(self) -> list[str]:
        """What did not hold when a process looked, or what ended it."""
        return (self.folder / "found").read_text().splitlines()

    def _prepare(self) -> int:
        with self._services(Fault("", 0, Refusals(0, Random(0)))) as services:  # noqa: S311 - nothing is drawn
            prepare(services, self.medium)
        return _DONE

    def _tried(self, share: Share) -> int:
        try:
            return self._work(share)
        except Exception as error:  # noqa: BLE001 - whatever it is, it should not have happened
            traceback.print_exc()
            self._note_found([f"the process with seed {share.seed} failed: {error!r}"])
            return _BROKEN

    def _note_found(self, found: Sequence[str]) -> None:
        (self.folder / "found").write_text("\n".join(found))

    def _work(self, share: Share) -> int:
        random = Random(share.seed)  # noqa: S311 - what is drawn again from a seed is the point
        refusals = Refusals(share.way.refusals, random)
        fault = Fault(share.point, share.at, refusals)
        with self._services(fault) as services:
            if share.is_checked:
                found = list(broken(services, self.medium, self.notes))
                if found:
                    self._note_found(found)
                    return _BROKEN
            if share.seconds is not None:
                # The signal's default action ends the process at once, whatever that is doing, as SIGKILL does.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, share.seconds)
            fault.arm(services)
            Scenario(services, self.medium, random, self.notes, refusals, share.way).run(share.actions)
        return _DONE

    @contextmanager
    def _services(self, fault: Fault) -> Iterator[Services]:
        clock = LaterClock(timedelta(days=self.processes))
        with closing(Database(self.url)) as database:
            yield assemble(database, "crash", clock, fault.open_store)


def in_a_process(work: Callable[[], int]) -> End:
    """Do something in a forked process, and tell how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            code = work()
        except BaseException:  # noqa: BLE001 - it must not return into the parent's code
            traceback.print_exc()
            code = 1
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return "killed"
    if os.WEXITSTATUS(status) not in {_DONE, _BROKEN}:
        raise RuntimeError("a process failed instead of being killed; its error is on standard error")
    return "broken" if os.WEXITSTATUS(status) == _BROKEN else "done"

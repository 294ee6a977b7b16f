"""Kills processes at every fault point and at random times, restarts them, and counts what does not hold then.

PYTHONPATH=tests python -m crash.driver --random 1000
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from uuid import uuid4

from crash.faults import POINTS, Fault
from crash.invariants import broken
from crash.media import LocalMedium, S3Medium
from crash.scenario import Scenario, prepare
from quota.bootstrap import SystemClock, assemble
from quota.eventlog.database import Database
from s3_servers import running_s3
from servers import running_postgresql
from support import create_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crash.media import Medium
    from quota.bootstrap import Services
    from quota.services.stores import OpenStore

ACTIONS = 40
KILLS_A_DEPLOYMENT = 20
_CHECKED = 0.6


@dataclass
class Deployment:
    """A database and a disk or bucket that outlive the processes that work on them."""

    url: str
    folder: Path
    medium: Medium
    kills: int = 0
    acknowledged: Path = field(init=False)
    forgotten: Path = field(init=False)
    violations: Path = field(init=False)

    def __post_init__(self) -> None:
        self.acknowledged = self.folder / "acknowledged"
        self.forgotten = self.folder / "forgotten"
        self.violations = self.folder / "violations"
        for file in (self.acknowledged, self.forgotten, self.violations):
            file.touch()
        create_schema(self.url)
        with self.services(Fault("", 0).open_store) as services:
            prepare(services, self.medium)

    @contextmanager
    def services(self, opener: OpenStore) -> Iterator[Services]:
        with closing(Database(self.url)) as database:
            yield assemble(database, "crash", SystemClock(), opener)

    def work(self, seed: int, fault: Fault) -> None:
        """Do a process's share."""
        with self.services(fault.open_store) as services:
            fault.watch_commits(services)
            random = Random(seed)  # noqa: S311 - what is drawn again from a seed is the point
            files = (self.acknowledged, self.forgotten, self.violations)
            Scenario(services, self.medium, random, *files).run(ACTIONS)

    def broken(self) -> list[str]:
        """Return what does not hold now."""
        with self.services(Fault("", 0).open_store) as services:
            noted = (set(file.read_text().split()) for file in (self.acknowledged, self.forgotten))
            found = list(broken(services, self.medium, *noted))
        return found + self.violations.read_text().splitlines()


@dataclass
class Summary:
    """What came of it."""

    killed: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def shown(self) -> dict[str, object]:
        return {
            "kills": sum(self.killed.values()),
            "points": len(self.killed),
            "killed": dict(sorted(self.killed.items())),
            "never_reached": sorted(point for point in self.survived if point not in self.killed),
            "violations": self.violations,
        }


def in_a_process(work: Callable[[], None], kill_after_seconds: float | None = None) -> bool:
    """Do something in a forked process; tell whether it was killed."""
    pid = os.fork()
    if pid == 0:
        if kill_after_seconds is not None:
            # Its default action ends the process at once, whatever that is doing, as SIGKILL does.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, kill_after_seconds)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it must not return into the parent's code
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("a process failed instead of being killed; its error is on standard error")
    return os.WIFSIGNALED(status)


class Driver:
    """Works through kills on deployments of one kind.

    Args:
        new_url: Makes an empty database.
        new_medium: Makes a disk in a folder, or a bucket.
        folder: Where the disks are.
        seed: What all chance is drawn from.
    """

    def __init__(
        self, new_url: Callable[[], str], new_medium: Callable[[Path], Medium], folder: Path, seed: int
    ) -> None:
        self._new_url = new_url
        self._new_medium = new_medium
        self._folder = folder
        self._random = Random(seed)  # noqa: S311 - what is drawn again from a seed is the point
        self._made = 0
        self._deployment: Deployment | None = None
        self.summary = Summary()

    def at_point(self, point: str, tries: int = 12) -> None:
        """Kill a process at a point, the first to the third time that it comes there."""
        for _ in range(tries):
            if point.endswith("eviction_cancelled"):
                # Only an open claim is ever cancelled, and sweeps that are not killed leave none.
                claimed = "before trash of the store"
                self._kill(claimed, in_a_process, Fault(claimed, 1), checked=0)
            fault = Fault(point, self._random.randint(1, 3))
            if self._kill(point, in_a_process, fault):
                return

    def at_random(self, longest_seconds: float) -> None:
        """Kill a process at a random time."""
        self._kill(
            "random", lambda work: in_a_process(work, self._random.uniform(0.001, longest_seconds)), Fault("", 0)
        )

    def _kill(
        self, name: str, run: Callable[[Callable[[], None]], bool], fault: Fault, checked: float = _CHECKED
    ) -> bool:
        deployment, seed = self._on(), self._random.getrandbits(32)
        killed = run(lambda: deployment.work(seed, fault))
        (self.summary.killed if killed else self.summary.survived)[name] += 1
        # Now and then the next process finds what this one left, before any sweep has settled it.
        found = deployment.broken() if self._random.random() < checked else []
        if found:
            self.summary.violations += [f"{name}, seed {seed}, {deployment.folder}: {one}" for one in found]
            self._deployment = None
        return killed

    def _on(self) -> Deployment:
        """Return the deployment to go on with; a new one now and then, as a log that grows slows all down."""
        deployment = self._deployment
        if deployment is None or deployment.kills == KILLS_A_DEPLOYMENT:
            self._made += 1
            folder = self._folder / str(self._made)
            folder.mkdir(parents=True)
            deployment = self._deployment = Deployment(self._new_url(), folder, self._new_medium(folder))
        deployment.kills += 1
        return deployment


def main() -> None:
    """Run all fault points and random kills on both databases and stores, and print the counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=100, help="how many kills at random times, for each pair")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--store", choices=["local", "s3"], action="append")
    chosen = parser.parse_args()
    shown = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quota-crash-")))
        pairs = product(chosen.database or ["sqlite", "postgresql"], chosen.store or ["local", "s3"])
        for database, store in pairs:
            name = f"{database}, {store}"
            new_medium = medium_maker(store, stack)
            own = folder / database / store
            own.mkdir(parents=True)
            driver = Driver(url_maker(database, own, stack), new_medium, own, chosen.seed)
            for point in POINTS[store]:
                driver.at_point(point)
            for _ in range(chosen.random):
                driver.at_random(1.0 if store == "local" else 3.0)
            shown[name] = driver.summary.shown()
    sys.stdout.write(f"{json.dumps(shown, indent=2)}\n")
    sys.exit(any(one["violations"] for one in shown.values()))


def url_maker(kind: str, folder: Path, stack: ExitStack) -> Callable[[], str]:
    """Return what makes empty databases."""
    if kind == "postgresql":
        return stack.enter_context(running_postgresql()).create_database
    names = iter(range(10**6))
    return lambda: f"sqlite:///{folder}/{next(names)}.db"


def medium_maker(kind: str, stack: ExitStack) -> Callable[[Path], Medium]:
    """Return what makes disks, or prefixes in buckets that keep versions and that do not by turns."""
    if kind == "local":
        return lambda folder: LocalMedium(folder / "root")
    server = stack.enter_context(running_s3())
    os.environ |= server.environment()
    buckets = cycle([server.create_bucket("versioned"), server.create_bucket("unversioned")])
    return lambda folder: S3Medium(server, next(buckets), f"{folder.name}-{uuid4().hex[:8]}/hpo/")


if __name__ == "__main__":
    main()

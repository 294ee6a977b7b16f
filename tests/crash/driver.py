"""Kills processes at every fault point and at random times, restarts them, and counts what does not hold then.

PYTHONPATH=tests python -m crash.driver --random 1000 --jobs 2

Each kind of database with each kind of store is a pair. When a pair is done its counts are printed, as a JSON object on
a line of its own: for each point, and for random times, how often a process was killed there, and how many violations
were found next. At the end comes the sum. The exit code is 0 if nothing was violated and every point was reached; but
for those that cannot occur, which `crash.points` lists with the reasons.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import pytest

from crash.counts import AT_RANDOM, Summary
from crash.deployment import Deployment, Share
from crash.kinds import (
    STORE_NAMES,
    DatabaseKind,
    databases_named,
    kind_of_bucket,
    local_maker,
    make_ready_for_s3,
    postgresql_maker,
    s3_maker,
    sqlite_maker,
    stores_named,
)
from crash.points import POINTS, StoreKind, cannot_occur, way_to
from s3_servers import running_s3
from servers import running_postgresql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crash.deployment import End
    from crash.media import Medium

Pair = tuple[DatabaseKind, StoreKind]

ACTIONS = 40
PROCESSES_A_DEPLOYMENT = 20
LONGEST_SECONDS: dict[StoreKind, float] = {"local": 0.7, "s3-versioned": 1.5, "s3-unversioned": 1.5}
_CHECKED = 0.6
_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - where temporary files go is the point


class Last(NamedTuple):
    """Where the last process died, and what its chance was drawn from."""

    killed_at: str = "no kill"
    seed: int = 0


class Driver:
    """Works through kills on deployments of one kind.

    Args:
        new_url: Makes a database with all tables.
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
        self._last = Last()
        self.summary = Summary()

    def at_point(self, point: str, tries: int = 20) -> bool:
        """Kill a process at a point, and tell whether one came there."""
        way = way_to(point)
        for _ in range(tries):
            if way.after is not None:
                self._run(Share(self._seed(), way.after, 1, way_to(way.after), ACTIONS))
            at, is_checked = self._random.randint(1, way.longest), way.after is None and self._is_checked()
            if self._run(Share(self._seed(), point, at, way, ACTIONS, is_checked=is_checked)):
                return True
        self.summary.never_reached.append(point)
        return False

    def at_random(self, longest_seconds: float) -> None:
        """Kill a process at a random time."""
        seconds = self._random.uniform(0.001, longest_seconds)
        self._run(Share(self._seed(), actions=None, seconds=seconds, is_checked=self._is_checked()))

    def finish(self) -> None:
        """See what the last process has left."""
        if self._deployment is not None:
            self._run_on(self._deployment, Share(self._seed()))
            self._deployment = None

    def _run(self, share: Share) -> bool:
        """Let a process do its share, on another deployment if this one is broken; tell whether it was killed."""
        end = self._run_on(self._on(), share)
        if end == "broken":
            end = self._run_on(self._on(), share)
        return end == "killed"

    def _run_on(self, deployment: Deployment, share: Share) -> End:
        self.summary.processes += 1
        end = deployment.run(share)
        if end == "broken":
            self.summary.violated[self._last.killed_at] += len(deployment.found)
            about = f"after {self._last.killed_at}, seed {self._last.seed}, {deployment.folder}"
            self.summary.violations += [f"{about}: {one}" for one in deployment.found]
            self._deployment = None
        if end == "killed":
            self.summary.killed[share.point or AT_RANDOM] += 1
        self._last = Last(share.point or AT_RANDOM, share.seed) if end == "killed" else Last()
        return end

    def _seed(self) -> int:
        return self._random.getrandbits(32)

    def _is_checked(self) -> bool:
        # Now and then the next process finds what this one left, before any sweep has settled it.
        return self._random.random() < _CHECKED

    def _on(self) -> Deployment:
        """Return the deployment to go on with; a new one now and then, as a log that grows slows all down."""
        if self._deployment is not None and self._deployment.processes >= PROCESSES_A_DEPLOYMENT:
            self.finish()
        if self._deployment is None:
            self._made += 1
            folder = self._folder / str(self._made)
            folder.mkdir(parents=True)
            self._deployment = Deployment(self._new_url(), folder, self._new_medium(folder))
            # What is there by now is shared with all processes to come, as long as nobody writes to it.
            gc.freeze()
        return self._deployment


def run_pair(database: DatabaseKind, store: StoreKind, random_kills: int, seed: int) -> Summary:
    """Kill processes of one pair at all points, and at random times."""
    started = monotonic()
    # That a checkpoint cannot be brought back is no news here.
    logging.getLogger("quota").setLevel(logging.ERROR)
    with ExitStack() as stack:
        # What the system was given survives a killed process wherever it lies, and memory is the faster disk.
        place = _MEMORY_DISK if _MEMORY_DISK.is_dir() else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quota-crash-", dir=place)))
        tempfile.tempdir = str(folder)
        if database == "sqlite":
            new_url = sqlite_maker(folder)
        else:
            new_url = postgresql_maker(stack.enter_context(running_postgresql()))
        if store == "local":
            new_medium = local_maker()
        else:
            server, kind = stack.enter_context(running_s3()), kind_of_bucket(store)
            bucket = server.create_bucket(kind)
            make_ready_for_s3(stack.enter_context(pytest.MonkeyPatch.context()), server, bucket)
            new_medium = s3_maker(server, kind, bucket)
        driver = Driver(new_url, new_medium, folder / "deployments", seed)
        for point in POINTS[store]:
            if point not in cannot_occur(store):
                driver.at_point(point)
        for _ in range(random_kills):
            driver.at_random(LONGEST_SECONDS[store])
        driver.finish()
    driver.summary.seconds = monotonic() - started
    return driver.summary


def run_pairs(pairs: Sequence[Pair], random_kills: int, seed: int, jobs: int) -> Summary:
    """Run pairs in so many processes, print the counts of each when it is done, and return the sum."""
    total, started = Summary(), monotonic()
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        running = {}
        for number, pair in enumerate(pairs):
            share = random_kills // len(pairs) + (number < random_kills % len(pairs))
            running[pool.submit(run_pair, *pair, share, seed)] = pair
        for future in as_completed(running):
            database, store = running[future]
            summary = future.result()
            reasons = Counter(cannot_occur(store).values())
            said = {"database": database, "store": store, **summary.shown(), "cannot_occur": reasons}
            say({**said, "points": summary.by_point()})
            summary.violations[:] = [f"{database}, {store}, {one}" for one in summary.violations]
            summary.never_reached[:] = [f"{database}, {store}, {one}" for one in summary.never_reached]
            total.add(summary)
    total.seconds = monotonic() - started
    return total


def say(counts: dict[str, Any]) -> None:
    """Print counts at once: whoever waits for them sees that it goes on."""
    sys.stdout.write(f"{json.dumps(counts)}\n")
    sys.stdout.flush()


def main() -> None:
    """Run all fault points and random kills on both databases and stores, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=100, help="how many kills at random times, in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="how many pairs are worked on at a time")
    parser.add_argument("--database", choices=get_args(DatabaseKind), action="append")
    parser.add_argument("--store", choices=STORE_NAMES, action="append", help="`s3` is both kinds of buckets")
    chosen = parser.parse_args()
    # Those that take longest go first.
    stores = sorted(stores_named(chosen.store), key=lambda store: -LONGEST_SECONDS[store])
    pairs: list[Pair] = [(database, store) for store in stores for database in databases_named(chosen.database)]
    total = run_pairs(pairs, chosen.random, chosen.seed, chosen.jobs)
    for violation in total.violations:
        sys.stderr.write(f"{violation}\n")
    say({"total": total.shown()})
    sys.exit(bool(total.violations or total.never_reached))


if __name__ == "__main__":
    main()

"""Resumes race sweeps, in processes: no trial may be told of a checkpoint that is gone or going.

PYTHONPATH=tests python -m crash.races --races 10000 --database postgresql --store local
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, get_args

from crash.kinds import (
    STORE_NAMES,
    DatabaseKind,
    kind_of_bucket,
    local_maker,
    medium_at,
    postgresql_maker,
    s3_maker,
    sqlite_maker,
    stores_named,
)
from crash.media import size_of
from crash.scenario import EXPERIMENT, prepare
from quota.bootstrap import SystemClock, assemble, open_store
from quota.client import ExperimentHandle
from quota.domain.events import CheckpointSaved, LimitSet, PolicyParameters, TrialPaused, TrialStarted
from quota.errors import LeaseHeld
from quota.eventlog.database import Database
from quota.services.sweep_order import SweepOrder
from s3_servers import running_s3
from servers import running_postgresql

if TYPE_CHECKING:
    from crash.media import Medium
    from crash.points import StoreKind
    from quota.bootstrap import Services

TUNERS = 3
TRIALS_A_TUNER = 12
_AT_ONCE = SweepOrder(PolicyParameters(policy="random", seed=1), timedelta())
_KEPT = SweepOrder(PolicyParameters(policy="random", seed=2), timedelta(hours=1))


def main() -> None:
    """Run the races, and print the counts as JSON; or be one of their processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=1_000)
    parser.add_argument("--database", choices=get_args(DatabaseKind), default="sqlite")
    parser.add_argument("--store", choices=STORE_NAMES, default="local", help="`s3` is both kinds of buckets, by turns")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", choices=["tuner", "sweeper"])
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--url")
    parser.add_argument("--root")
    parser.add_argument("--peer", type=int, help="a sweeper's: the descriptor by which it hears of the other one")
    chosen = parser.parse_args()
    if chosen.role is None:
        violations = 0
        for store in stores_named([chosen.store]):
            counts = race(chosen.database, chosen.races, chosen.seed, store)
            violations += counts["violations"]
            sys.stdout.write(f"{json.dumps({'store': store, **counts})}\n")
        sys.exit(bool(violations))
    with closing(Database(chosen.url)) as database:
        services = assemble(database, chosen.role, SystemClock(), open_store)
        if chosen.role == "sweeper":
            with socket.socket(fileno=chosen.peer) as peer:
                sweep_until_told(services, peer)
        else:
            tuner = Tuner(services, medium_at(chosen.root), chosen.number, chosen.seed)
            sys.stdout.write(f"{json.dumps(tuner.run(chosen.races))}\n")


def race(kind: DatabaseKind, races: int, seed: int, store: StoreKind = "local") -> dict[str, int]:
    """Let tuners resume and sweepers evict at the same time, each in a process of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quota-races-")))
        url, medium = new_database(kind, folder, stack), new_medium(store, folder, stack)
        with closing(Database(url)) as database:
            services = assemble(database, "races", SystemClock(), open_store)
            prepare(services, medium)
            half = TUNERS * TRIALS_A_TUNER // 2
            services.administration.set_limit(
                LimitSet(scope="experiments", measure="checkpoints", high=half, low=half - 4)
            )
        command = [sys.executable, "-m", "crash.races", "--url", url, "--root", medium.root_uri]
        sweepers = start_sweepers(command, stack)
        tuners = [
            stack.enter_context(
                subprocess.Popen(
                    [
                        *(*command, "--role", "tuner", "--number", str(number)),
                        *("--races", str(races // TUNERS + (number < races % TUNERS)), "--seed", str(seed)),
                    ],
                    stdout=subprocess.PIPE,
                    env=environment(),
                )
            )
            for number in range(TUNERS)
        ]
        answers = [json.loads(tuner.communicate()[0]) for tuner in tuners]
        for sweeper in sweepers:
            sweeper.communicate(b"\n")
        if any(process.returncode for process in (*tuners, *sweepers)):
            raise RuntimeError("a process failed; its error is on standard error")
    return {name: sum(answer[name] for answer in answers) for name in answers[0]}


def new_database(kind: DatabaseKind, folder: Path, stack: ExitStack) -> str:
    if kind == "sqlite":
        return sqlite_maker(folder)()
    return postgresql_maker(stack.enter_context(running_postgresql()))()


def new_medium(store: StoreKind, folder: Path, stack: ExitStack) -> Medium:
    if store == "local":
        return local_maker()(folder)
    server, kind = stack.enter_context(running_s3()), kind_of_bucket(store)
    os.environ |= server.environment()
    return s3_maker(server, kind, server.create_bucket(kind))(folder)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def start_sweepers(command: list[str], stack: ExitStack) -> list[subprocess.Popen[bytes]]:
    """Start two, each of which hears when the other one has done with a sweep."""
    ends = socket.socketpair()
    sweepers = [
        stack.enter_context(
            subprocess.Popen(
                [*command, "--role", "sweeper", "--peer", str(end.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment(),
                pass_fds=[end.fileno()],
            )
        )
        for end in ends
    ]
    for end in ends:
        end.close()
    return sweepers


def sweep_until_told(services: Services, peer: socket.socket) -> None:
    """Sweep again and again, until standard input says something."""
    told = selectors.DefaultSelector()
    told.register(sys.stdin, selectors.EVENT_READ)
    either = selectors.DefaultSelector()
    either.register(sys.stdin, selectors.EVENT_READ)
    either.register(peer, selectors.EVENT_READ)
    peer.settimeout(0)
    orders = [_AT_ONCE, _AT_ONCE, _KEPT]
    for turn in range(10**9):
        if told.select(timeout=0):
            return
        try:
            services.sweeper.sweep([EXPERIMENT], orders[turn % len(orders)])
        except LeaseHeld:
            # The other one sweeps, and says so when it has given the lease back. What it has said of earlier sweeps
            # makes this one try once too often.
            either.select()
            with suppress(BlockingIOError):
                peer.recv(4_096)
        else:
            # It need not listen, or be there any more.
            with suppress(OSError):
                peer.send(b".")


class Tuner:
    """Resumes its paused trials in random order, loads what it is told, and pauses them again."""

    def __init__(self, services: Services, medium: Medium, number: int, seed: int) -> None:
        self._services = services
        self._handle = ExperimentHandle(services, f"tuner-{number}", EXPERIMENT)
        self._medium = medium
        self._random = Random(f"{seed} {number}")  # noqa: S311 - what is drawn again from a seed is the point
        self._trials = [f"{number}-{trial}" for trial in range(TRIALS_A_TUNER)]
        self._written: dict[str, int] = {}

    def run(self, races: int) -> dict[str, int]:
        """Return how many resumes there were, how many were promised a checkpoint, and how many of these were gone."""
        for trial_id in self._trials:
            self._handle.record(TrialStarted(trial_id=trial_id))
            self._pause(trial_id)
        promised = violations = 0
        for _ in range(races):
            trial_id = self._random.choice(self._trials)
            checkpoint = self._handle.resume_trial(trial_id, level=1)
            if checkpoint is not None:
                promised += 1
                violations += not self._is_there(trial_id, checkpoint.uri)
            if self._random.random() < 0.5:
                # It loads for a while, and meanwhile another trial is paused.
                self._services.recorder.promised_checkpoint(EXPERIMENT, trial_id)
                violations += checkpoint is not None and not self._is_there(trial_id, checkpoint.uri)
            self._pause(trial_id)
        return {"races": races, "promised": promised, "from_scratch": races - promised, "violations": violations}

    def _is_there(self, trial_id: str, uri: str) -> bool:
        found = self._medium.read(uri)
        return found is not None and found["number"] == self._written[trial_id]

    def _pause(self, trial_id: str) -> None:
        uri = self._medium.uri(trial_id, "a")
        number = self._written[trial_id] = self._random.getrandbits(60)
        self._medium.write(uri, {"trial": trial_id, "resource": 1, "number": number})
        saved = CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=size_of(uri), resource=1)
        paused = TrialPaused(trial_id=trial_id, level=1, metric=self._random.random())
        self._services.recorder.append([self._handle.event(payload) for payload in (saved, paused)])


if __name__ == "__main__":
    main()

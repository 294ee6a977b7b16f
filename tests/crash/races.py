"""Resumes race sweeps, in processes: no trial may be told of a checkpoint that is gone or going.

PYTHONPATH=tests python -m crash.races --races 10000 --database postgresql
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from crash.driver import url_maker
from crash.media import LocalMedium
from crash.scenario import EXPERIMENT, prepare
from quota.bootstrap import SystemClock, assemble, open_store
from quota.client import ExperimentHandle
from quota.domain.events import CheckpointSaved, LimitSet, PolicyParameters, TrialPaused, TrialStarted
from quota.errors import LeaseHeld
from quota.eventlog.database import Database
from quota.services.sweep_order import SweepOrder
from support import create_schema

if TYPE_CHECKING:
    from quota.bootstrap import Services

TUNERS = 3
SWEEPERS = 2
TRIALS_A_TUNER = 12
_AT_ONCE = SweepOrder(PolicyParameters(policy="random", seed=1), timedelta())
_KEPT = SweepOrder(PolicyParameters(policy="random", seed=2), timedelta(hours=1))


def main() -> None:
    """Run the races, and print the counts as JSON; or be one of their processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=1_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", choices=["tuner", "sweeper"])
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--url")
    parser.add_argument("--root", type=Path)
    chosen = parser.parse_args()
    if chosen.role is None:
        counts = race(chosen.database, chosen.races, chosen.seed)
        sys.stdout.write(f"{json.dumps(counts)}\n")
        sys.exit(bool(counts["violations"]))
    with closing(Database(chosen.url)) as database:
        services = assemble(database, chosen.role, SystemClock(), open_store)
        if chosen.role == "sweeper":
            sweep_until_told(services)
        else:
            tuner = Tuner(services, LocalMedium(chosen.root), chosen.number, chosen.seed)
            sys.stdout.write(f"{json.dumps(tuner.run(chosen.races))}\n")


def race(kind: str, races: int, seed: int) -> dict[str, int]:
    """Let tuners resume and sweepers evict at the same time, each in a process of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quota-races-")))
        url, root = url_maker(kind, folder, stack)(), folder / "root"
        create_schema(url)
        with closing(Database(url)) as database:
            services = assemble(database, "races", SystemClock(), open_store)
            prepare(services, LocalMedium(root))
            half = TUNERS * TRIALS_A_TUNER // 2
            services.administration.set_limit(
                LimitSet(scope="experiments", measure="checkpoints", high=half, low=half - 4)
            )
        command = [sys.executable, "-m", "crash.races", "--url", url, "--root", str(root)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        sweepers = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, "--role", "sweeper"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=environment,
                )
            )
            for _ in range(SWEEPERS)
        ]
        tuners = [
            stack.enter_context(
                subprocess.Popen(
                    [
                        *(*command, "--role", "tuner", "--number", str(number)),
                        *("--races", str(races // TUNERS + (number < races % TUNERS)), "--seed", str(seed)),
                    ],
                    stdout=subprocess.PIPE,
                    env=environment,
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


def sweep_until_told(services: Services) -> None:
    """Sweep again and again, until standard input says something."""
    told = selectors.DefaultSelector()
    told.register(sys.stdin, selectors.EVENT_READ)
    orders = [_AT_ONCE, _AT_ONCE, _KEPT]
    for turn in range(10**9):
        if told.select(timeout=0):
            return
        try:
            services.sweeper.sweep([EXPERIMENT], orders[turn % len(orders)])
        except LeaseHeld:
            # The other one sweeps; wait a moment for it.
            told.select(timeout=0.02)


class Tuner:
    """Resumes its paused trials in random order, loads what it is told, and pauses them again."""

    def __init__(self, services: Services, medium: LocalMedium, number: int, seed: int) -> None:
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
        saved = CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=1, resource=1)
        paused = TrialPaused(trial_id=trial_id, level=1, metric=self._random.random())
        self._services.recorder.append([self._handle.event(payload) for payload in (saved, paused)])


if __name__ == "__main__":
    main()

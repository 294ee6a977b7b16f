"""What a deployment does all day, at random: trials train, pause and resume, checkpoints are evicted and restored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from quota.client import ExperimentHandle
from quota.domain.events import (
    CheckpointPinned,
    CheckpointSaved,
    CheckpointUnpinned,
    ExperimentRegistered,
    LimitSet,
    PolicyParameters,
    TrialPaused,
    TrialReported,
)
from quota.domain.identifiers import ORPHANS_STREAM
from quota.errors import StateRefused, StoreError
from quota.services.sweep_order import SweepOrder

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from crash.media import Medium
    from quota.bootstrap import Services
    from quota.domain.experiment import ExperimentState, Trial

EXPERIMENT = "x"
LEVELS = (1, 3, 9)
UNREPORTED = "c"
AT_ONCE = SweepOrder(PolicyParameters(policy="by_level"), timedelta())
KEEP = SweepOrder(PolicyParameters(), timedelta(hours=1))


def prepare(services: Services, medium: Medium) -> None:
    """Register the experiment, and allow deletion where it writes."""
    medium.prepare()
    services.administration.add_store(medium.root_uri)
    services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=4, low=3))
    ExperimentHandle(services, "tuner", EXPERIMENT).record(
        ExperimentRegistered(mode="min", rung_levels=LEVELS, promotion_quantiles=(0.5, 0.5, 0.5), max_resource=27)
    )


def look(services: Services, stream: str = EXPERIMENT) -> ExperimentState:
    """Return the state that the log adds up to."""
    with services.database.read() as connection:
        return services.projector.look(connection, stream)


def number_of(uri: str) -> int:
    """Return the number of what is written to a place, and taken for an orphan, before its trial reports it."""
    return int(sha256(uri.encode()).hexdigest()[:15], 16)


@dataclass
class Scenario:
    """One process's share of the day.

    Attributes:
        acknowledged: File in which each save is noted once it is known to be recorded.
        forgotten: File in which each checkpoint that is lost by hand is noted, by its place and its number.
        violations: File in which each broken promise is noted.
    """

    services: Services
    medium: Medium
    random: Random
    acknowledged: Path
    forgotten: Path
    violations: Path

    def __post_init__(self) -> None:
        self.handle = ExperimentHandle(self.services, "tuner", EXPERIMENT)

    def run(self, actions: int) -> None:
        for _ in range(actions):
            once = [self.start, self.pin, self.restore, self.lose, self.litter, self.report_late]
            action = self.random.choice([*once, *[self.train, self.resume, self.sweep] * 2])
            action(look(self.services))

    def start(self, state: ExperimentState) -> None:
        self.handle.trial_started(str(len(state.trials) + 1))

    def train(self, state: ExperimentState) -> None:
        """Train a running trial up to its next rung, where it is paused."""
        trial = self._one(state, "running")
        if trial is None:
            return
        level = next((one for one in LEVELS if one > (trial.level or 0)), None)
        if level is None:
            self.handle.trial_completed(trial.trial_id)
            return
        uri = self.medium.uri(trial.trial_id, self.random.choice("aab"))
        number = self.random.getrandbits(60)
        self.medium.write(uri, {"trial": trial.trial_id, "resource": level, "number": number})
        saved = CheckpointSaved(trial_id=trial.trial_id, uri=uri, size_bytes=1, resource=level)
        metric = self.random.random()
        payloads = [
            TrialReported(trial_id=trial.trial_id, resource=level, metric=metric),
            saved,
            TrialPaused(trial_id=trial.trial_id, level=level, metric=metric),
        ]
        if self.random.random() < 0.2:
            # Late news of the save.
            payloads[1], payloads[2] = payloads[2], payloads[1]
        if self.random.random() < 0.3:
            for payload in payloads:
                self.handle.record(payload)
        else:
            self.services.recorder.append([self.handle.event(payload) for payload in payloads])
        with self.acknowledged.open("a") as noted:
            noted.write(f"{number}\n")

    def resume(self, state: ExperimentState) -> None:
        """Resume a paused trial, and load what it was told."""
        trial = self._one(state, "paused")
        if trial is None or trial.level is None:
            return
        promised = self.handle.resume_trial(trial.trial_id, level=trial.level)
        if promised is not None:
            self.check_loadable(trial.trial_id, promised.uri)

    def check_loadable(self, trial_id: str, uri: str) -> None:
        """Note it where a promised checkpoint cannot be loaded."""
        found = self.medium.read(uri)
        if found is None or found["trial"] != trial_id:
            with self.violations.open("a") as noted:
                noted.write(f"trial {trial_id} was promised {uri}, and found {found}\n")

    def pin(self, state: ExperimentState) -> None:
        stored = [one for one in state.checkpoints.values() if one.state == "stored"]
        if stored:
            chosen = self.random.choice(stored)
            change = CheckpointUnpinned if chosen.pinned else CheckpointPinned
            self.handle.record(change(trial_id=chosen.trial_id, uri=chosen.uri))

    def sweep(self, _: ExperimentState) -> None:
        order = AT_ONCE if self.random.random() < 0.6 else KEEP
        self.services.sweeper.sweep(self.services.queries.experiment_ids(), order)

    def litter(self, state: ExperimentState) -> None:
        """Write what nobody has reported, and have it taken for an orphan."""
        trial = self._one(state, "running")
        uri = self.medium.uri("" if trial is None else trial.trial_id, UNREPORTED)
        if trial is not None and uri not in state.checkpoints:
            self.medium.write(uri, {"trial": trial.trial_id, "resource": 1, "number": number_of(uri)})
            self.services.sweeper.trash_orphans([uri], timedelta(), KEEP)

    def report_late(self, state: ExperimentState) -> None:
        """Report what was taken for an orphan, as long as it is to be had."""
        trial = self._one(state, "running")
        uri = self.medium.uri("" if trial is None else trial.trial_id, UNREPORTED)
        orphan = look(self.services, ORPHANS_STREAM).checkpoints.get(uri)
        if trial is None or orphan is None or orphan.state in {"purging", "purged"} or uri in state.checkpoints:
            return
        self.handle.record(CheckpointSaved(trial_id=trial.trial_id, uri=uri, size_bytes=1, resource=1))
        with self.acknowledged.open("a") as noted:
            noted.write(f"{number_of(uri)}\n")

    def restore(self, state: ExperimentState) -> None:
        open_ones = [*state.decisions.values(), *look(self.services, ORPHANS_STREAM).decisions.values()]
        trashed = [one for one in open_ones if one.outcome == "trashed"]
        if trashed:
            try:
                self.services.restorer.restore(self.random.choice(trashed).decided.decision_id)
            except (StateRefused, StoreError):
                # Its trial has written there since.
                return

    def lose(self, state: ExperimentState) -> None:
        """Delete what a paused trial has written behind everybody's back, and sometimes say so."""
        trial = self._one(state, "paused")
        if trial is None or self.random.random() < 0.7:
            return
        lost = [state.checkpoints[uri] for uri in state.trial_uris.get(trial.trial_id, [])]
        with self.forgotten.open("a") as noted:
            for checkpoint in lost:
                found = self.medium.read(checkpoint.uri)
                noted.write(f"{checkpoint.uri}\n{found['number'] if found else ''}\n{number_of(checkpoint.uri)}\n")
        for checkpoint in lost:
            self.medium.lose(checkpoint.uri)
        if self.random.random() < 0.5:
            for checkpoint in lost:
                self.handle.checkpoint_missing(trial.trial_id, location=checkpoint.uri)

    def _one(self, state: ExperimentState, status: str) -> Trial | None:
        found = [trial for trial in state.trials.values() if trial.status == status]
        return self.random.choice(found) if found else None

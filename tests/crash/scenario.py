"""What a deployment does all day, at random: trials train, pause and resume, checkpoints are evicted and restored."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING

from crash.media import LEAST_BYTES, MOST_BYTES, size_of
from crash.points import USUALLY, Way
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
    TrialResumed,
)
from quota.domain.identifiers import ORPHANS_STREAM
from quota.errors import StateRefused, StoreError
from quota.services.findings import ReconcileOrder
from quota.services.sweep_order import SweepOrder

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from crash.media import Medium
    from crash.notes import Notes
    from crash.refusals import Refusals
    from quota.bootstrap import Services
    from quota.domain.events import Event
    from quota.domain.experiment import ExperimentState, Trial
    from quota.services.findings import Finding

EXPERIMENT = "x"
LEVELS = (1, 3, 9)
UNREPORTED = "c"
AT_ONCE = SweepOrder(PolicyParameters(policy="by_level"), timedelta())
KEEP = SweepOrder(PolicyParameters(), timedelta(days=5))
RECONCILE = ReconcileOrder(timedelta(), timedelta(minutes=1), record=True)

LIMITS = (
    LimitSet(scope="experiments", measure="checkpoints", high=4, low=3),
    LimitSet(scope="deployment", measure="checkpoints", high=4, low=3),
    LimitSet(scope="deployment", measure="bytes", high=5 * MOST_BYTES, low=4 * LEAST_BYTES),
)
"""One at a time calls for evictions: each experiment's own, or one that experiments share; bytes in the trash count."""


def prepare(services: Services, medium: Medium) -> None:
    """Register the experiment, and allow deletion where it writes."""
    medium.prepare()
    services.administration.add_store(medium.root_uri)
    services.administration.set_limit(LIMITS[0])
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
        notes: What it leaves to the next one.
        refusals: Whether stores refuse while a sweep or an operator asks something of them. What is promised then was
            seen, as no refusal comes between a resume and its checkpoint.
        way: What it does first, and most of the time.
    """

    services: Services
    medium: Medium
    random: Random
    notes: Notes
    refusals: Refusals
    way: Way = USUALLY
    handle: ExperimentHandle = field(init=False)

    def __post_init__(self) -> None:
        self.handle = ExperimentHandle(self.services, "tuner", EXPERIMENT)

    def run(self, actions: int | None) -> None:
        """Act so many times; until this process is killed where that is None."""
        once = [self.start, self.pin, self.restore, self.lose, self.litter, self.report_late]
        once += [self.rebuild, self.reconcile, self.begin_upload, self.relimit]
        choice = [*once, *[self.train, self.resume, self.sweep] * 3]
        often: list[Callable[[ExperimentState], None]] = [getattr(self, name) for name in self.way.actions]
        for name in self.way.first:
            getattr(self, name)(look(self.services))
        for _ in count() if actions is None else range(actions):
            action = self.random.choice(often if often and self.random.random() < 0.6 else choice)
            action(look(self.services))

    def start(self, state: ExperimentState) -> None:
        self.handle.trial_started(str(len(state.trials) + 1))

    def train(self, state: ExperimentState) -> None:
        """Train a running trial up to its next rung, where it is paused."""
        trial = self._one(state, "running")
        if trial is None:
            self.start(state)
            return
        self.notes.end_promise(trial.trial_id)
        level = next((one for one in LEVELS if one > (trial.level or 0)), None)
        if level is None:
            self.handle.trial_completed(trial.trial_id)
            return
        uri = self.medium.uri(trial.trial_id, self.random.choice("aab"))
        number = self.random.getrandbits(60)
        self.medium.write(uri, {"trial": trial.trial_id, "resource": level, "number": number})
        metric = self.random.random()
        payloads = [
            TrialReported(trial_id=trial.trial_id, resource=level, metric=metric),
            CheckpointSaved(trial_id=trial.trial_id, uri=uri, size_bytes=size_of(uri), resource=level),
            TrialPaused(trial_id=trial.trial_id, level=level, metric=metric),
        ]
        if self.random.random() < 0.2:
            # Late news of the save.
            payloads[1], payloads[2] = payloads[2], payloads[1]
        if self.random.random() < 0.3:
            for payload in payloads:
                self.send(payload)
        else:
            self.send(*payloads)
        self.notes.acknowledge(uri, number)

    def send(self, *payloads: Event) -> None:
        """Send events as one batch, and now and then once more, as a tuner does that heard no answer."""
        batch = [self.handle.event(payload) for payload in payloads]
        first = self.services.recorder.append(batch)
        if self.random.random() < 0.2:
            again = self.services.recorder.append(batch)
            told = [(one.position, one.stored_before) for one in again]
            if told != [(one.position, True) for one in first]:
                self.notes.violation(f"what was sent twice was answered {first} and then {again}")

    def resume(self, state: ExperimentState) -> None:
        """Resume a paused trial, and load what it was told."""
        trial = self._one(state, "paused", prefer="claimed")
        if trial is None or trial.level is None:
            self.train(state)
            return
        resumed = TrialResumed(trial_id=trial.trial_id, level=trial.level)
        told = self.services.recorder.resume_trial(self.handle.event(resumed))
        if told.checkpoint is None:
            return
        uri = told.checkpoint.uri
        found = self.medium.read(uri)
        if found is None or found["trial"] != trial.trial_id:
            self.notes.violation(f"trial {trial.trial_id} was promised {uri}, and found {found}")
            return
        self.notes.promise(trial.trial_id, uri, found["number"], told.receipt.position)

    def pin(self, state: ExperimentState) -> None:
        """Pin or unpin a checkpoint, one that is about to be evicted if there is one."""
        stored, claimed = ([one for one in state.checkpoints.values() if one.state == s] for s in ("stored", "claimed"))
        if stored or claimed:
            chosen = self.random.choice(claimed or stored)
            change = CheckpointUnpinned if chosen.pinned else CheckpointPinned
            self.handle.record(change(trial_id=chosen.trial_id, uri=chosen.uri))

    def sweep(self, _: ExperimentState) -> None:
        # What is to be restored must be in the trash for a while.
        order = AT_ONCE if self.random.random() < 0.6 and "restore" not in self.way.actions else KEEP
        with self.refusals.possible():
            self.services.sweeper.sweep(self.services.queries.experiment_ids(), order)

    def litter(self, state: ExperimentState) -> None:
        """Write what nobody has reported, and have it taken for an orphan."""
        trial = self._one(state, "running")
        uri = self.medium.uri("" if trial is None else trial.trial_id, UNREPORTED)
        known = look(self.services, ORPHANS_STREAM).checkpoints.get(uri)
        # What the trash holds from an earlier time would come back to the place, once that is free again.
        is_in_trash = known is not None and known.state != "purged"
        if trial is not None and uri not in state.checkpoints and not is_in_trash:
            self.medium.write(uri, {"trial": trial.trial_id, "resource": 1, "number": number_of(uri)})
            with self.refusals.possible():
                self.services.sweeper.trash_orphans([uri], timedelta(), KEEP)

    def report_late(self, state: ExperimentState) -> None:
        """Report what was taken for an orphan, as long as it is to be had."""
        trial = self._one(state, "running")
        uri = self.medium.uri("" if trial is None else trial.trial_id, UNREPORTED)
        orphan = look(self.services, ORPHANS_STREAM).checkpoints.get(uri)
        if trial is None or orphan is None or orphan.state in {"purging", "purged"} or uri in state.checkpoints:
            return
        self.send(CheckpointSaved(trial_id=trial.trial_id, uri=uri, size_bytes=size_of(uri), resource=1))
        self.notes.acknowledge(uri, number_of(uri))

    def restore(self, state: ExperimentState) -> None:
        open_ones = [*state.decisions.values(), *look(self.services, ORPHANS_STREAM).decisions.values()]
        trashed = [one for one in open_ones if one.outcome == "trashed"]
        if trashed:
            try:
                with self.refusals.possible():
                    self.services.restorer.restore(self.random.choice(trashed).decided.decision_id)
            except (StateRefused, StoreError):
                # Its trial has written there since, or the store refuses.
                return

    def lose(self, state: ExperimentState) -> None:
        """Delete what a paused trial has written behind everybody's back, and sometimes say so."""
        trial = self._one(state, "paused")
        is_seldom = "lose" not in self.way.actions
        if trial is None or (is_seldom and self.random.random() < 0.7):
            return
        lying = {uri: self.medium.read(uri) for uri in state.trial_uris.get(trial.trial_id, [])}
        lost = {uri: found for uri, found in lying.items() if found is not None}
        for uri, found in lost.items():
            self.notes.lose(uri, found["number"])
        for uri in lost:
            self.medium.lose(uri)
        for uri in lying:
            # A restore has to make anew what it lies in.
            self.medium.tidy(uri)
        if self.random.random() < 0.5:
            for uri in lost:
                self.handle.checkpoint_missing(trial.trial_id, location=uri)

    def begin_upload(self, state: ExperimentState) -> None:
        """Begin to upload something to a trial's place, and never end that."""
        if state.checkpoints:
            self.medium.begin_upload(self.random.choice(list(state.checkpoints)))

    def relimit(self, _: ExperimentState) -> None:
        """Let another limit call for evictions."""
        administration, chosen = self.services.administration, self.random.choice(LIMITS)
        administration.set_limit(chosen)
        for limit in administration.look().limits.values():
            if (limit.scope, limit.measure) != (chosen.scope, chosen.measure):
                administration.remove_limit(limit.scope, limit.measure)

    def rebuild(self, _: ExperimentState) -> None:
        self.services.rebuilder.rebuild(EXPERIMENT, lambda _: None)

    def reconcile(self, _: ExperimentState) -> None:
        self.services.reconciler.reconcile([], RECONCILE, Nobody())

    def _one(self, state: ExperimentState, status: str, *, prefer: str = "") -> Trial | None:
        """Choose a trial that does something, with a checkpoint in a state that is preferred if there is one."""
        found = [trial for trial in state.trials.values() if trial.status == status]
        with_it = {checkpoint.trial_id for checkpoint in state.checkpoints.values() if checkpoint.state == prefer}
        preferred = [trial for trial in found if trial.trial_id in with_it]
        return self.random.choice(preferred or found) if found else None


class Nobody:
    """Watches a comparison, and does not care."""

    def listed(self) -> None:
        """See nothing."""

    def found(self, finding: Finding) -> None:
        """Hear nothing."""

    def should_stop(self) -> bool:
        """Go on."""
        return False

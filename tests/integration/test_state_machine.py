"""Whatever is done in whatever order, and wherever a sweep is killed: what must not go stays where it is."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from math import inf, isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quota.domain.events import (
    CheckpointMissing,
    CheckpointPinned,
    CheckpointSaved,
    CheckpointUnpinned,
    ExperimentRegistered,
    LimitSet,
    TrialCompleted,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)
from quota.domain.experiment import OVERALL, may_retry
from quota.domain.identifiers import DEPLOYMENT_STREAM, ORPHANS_STREAM
from quota.errors import StateRefused, StoreError
from support import create_schema
from sweeps import AT_ONCE, DAY, KEEP, ROOT, Killed, Sweeps, killing, refusing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from quota.domain.events import Event
    from quota.domain.experiment import ExperimentState
    from quota.services.sweep_order import SweepOrder, SweepReport

LEVELS = (1, 3, 9)
STEPS = ["manifest", "trash", "restore", "purge"]
KILLS = [f"{when} {step}" for when in ("before", "after") for step in STEPS if (when, step) != ("after", "manifest")]
TRIALS = st.sampled_from(["1", "2", "3", "4"])
PLACES = st.sampled_from(["", "-b"])
METRICS = st.floats(0, 1) | st.just(nan)
UNREPORTED = "-unreported"
HIGH, LOW = 2, 1


class Deployment(RuleBasedStateMachine):
    """A dictionary model beside the real thing.

    Attributes:
        status: What each trial does.
        ranked: What each trial was last paused with, as it ranks: NaN comes last.
        compared: How many data the reports at each level have given, and how many of them were better or equal.
        written: What each place holds as far as its trial knows; a place that was lost by hand is not in it.
        orphans: What lies or lay where nobody has reported it.
        sacred: Places that nothing may take: pinned, promised, or an ended trial's that was there when it ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="quota-machine-")))
        url = f"sqlite:///{folder}/quota.db"
        create_schema(url)
        self.sweeps: Sweeps = self.stack.enter_context(sweeps_over(url))
        self.status: dict[str, str] = {}
        self.level: dict[str, int] = {}
        self.ranked: dict[str, float] = {}
        self.compared: dict[int, tuple[int, int]] = dict.fromkeys((*LEVELS, OVERALL), (0, 0))
        self.written: dict[str, bytes] = {}
        self.owner: dict[str, str] = {}
        self.orphans: dict[str, bytes] = {}
        self.pinned: set[str] = set()
        self.promised: dict[str, str] = {}
        self.kept_by_end: set[str] = set()
        self.numbers = itertools.count(1)

    def teardown(self) -> None:
        self.stack.close()

    @initialize()
    def prepare(self) -> None:
        self.sweeps.services.administration.add_store(ROOT)
        self.sweeps.services.administration.set_limit(
            LimitSet(scope="experiments", measure="checkpoints", high=HIGH, low=LOW)
        )
        quantiles = (0.5, 0.5, 0.5)
        self.sweeps.send(
            ExperimentRegistered(mode="min", rung_levels=LEVELS, promotion_quantiles=quantiles, max_resource=27)
        )
        for trial_id in ("1", "2", "3"):
            self.start(trial_id)
            self.save(trial_id, "")
            self.pause(trial_id, 0.1 * int(trial_id))

    @rule(trial_id=TRIALS)
    def start(self, trial_id: str) -> None:
        if trial_id not in self.status:
            self.sweeps.send(TrialStarted(trial_id=trial_id))
            self.status[trial_id] = "running"

    @rule(trial_id=TRIALS, place=PLACES)
    def save(self, trial_id: str, place: str) -> None:
        if self.status.get(trial_id) != "running":
            return
        uri, content = uri_of(trial_id, place), f"{next(self.numbers)}".encode()
        self.sweeps.store.add_checkpoint(uri, {"weights": content}, modified_at=self.sweeps.clock.moment)
        self.written[uri], self.owner[uri] = content, trial_id
        resource = max(1, self.level.get(trial_id, 0))
        self.sweeps.send(CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=len(content), resource=resource))

    @rule(trial_id=TRIALS, is_killed=st.booleans())
    def take_for_an_orphan(self, trial_id: str, *, is_killed: bool) -> None:
        """Write what nobody reports, or not yet, and let it pass for an old thing."""
        uri = uri_of(trial_id, UNREPORTED)
        if self.status.get(trial_id) != "running" or uri in self.owner:
            return
        self.orphans[uri] = f"{next(self.numbers)}".encode()
        written_at = self.sweeps.clock.moment - 2 * DAY
        self.sweeps.store.add_checkpoint(uri, {"weights": self.orphans[uri]}, modified_at=written_at)
        hook = killing("after trash") if is_killed else silent
        self._with(hook, lambda: self.sweeps.services.sweeper.trash_orphans([uri], DAY, KEEP))

    @rule(trial_id=TRIALS)
    def report_an_orphan(self, trial_id: str) -> None:
        uri = uri_of(trial_id, UNREPORTED)
        checkpoint = self.state_of_orphans().checkpoints.get(uri)
        is_to_be_had = checkpoint is not None and checkpoint.state in {"stored", "claimed", "trashed"}
        if self.status.get(trial_id) == "running" and is_to_be_had and uri not in self.owner:
            self.written[uri], self.owner[uri] = self.orphans[uri], trial_id
            self.sweeps.send(CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=1, resource=1))

    @rule(index=st.integers(0, 3), resource=st.sampled_from([1, 1, 2, 3]), metric=METRICS)
    def report(self, index: int, resource: int, metric: float) -> None:
        """Report a metric, which at a rung is compared with those of all who are paused there with a checkpoint."""
        self.start("4")
        running = [trial_id for trial_id, status in self.status.items() if status == "running"]
        if not running:
            return
        trial_id = running[index % len(running)]
        self.sweeps.send(TrialReported(trial_id=trial_id, resource=resource, metric=metric))
        state = self.sweeps.state()
        paused = [one for one, level in self.level.items() if level == resource and self.status[one] == "paused"]
        others = [self.ranked[one] for one in paused if state.trials[one].stored_checkpoints]
        for level in (resource, OVERALL) if resource in LEVELS else ():
            total, ones = self.compared[level]
            ones += sum(as_ranked(metric) <= other for other in others)
            self.compared[level] = (total + len(others), ones)
        assert {level: (one.total, one.ones) for level, one in state.estimators.items()} == self.compared

    @rule(trial_id=TRIALS, metric=METRICS)
    def pause(self, trial_id: str, metric: float) -> None:
        above = [level for level in LEVELS if level > self.level.get(trial_id, 0)]
        if self.status.get(trial_id) != "running" or not above:
            return
        self.sweeps.send(TrialPaused(trial_id=trial_id, level=above[0], metric=metric))
        self.status[trial_id], self.level[trial_id] = "paused", above[0]
        self.ranked[trial_id] = as_ranked(metric)
        self.promised.pop(trial_id, None)

    @rule(trial_id=TRIALS, is_asked=st.booleans())
    def resume(self, trial_id: str, *, is_asked: bool) -> None:
        if self.status.get(trial_id) != "paused":
            return
        could = self.loadable(trial_id)
        if is_asked:
            told = self.sweeps.resume(trial_id, self.level[trial_id]).checkpoint
        else:
            self.sweeps.send(TrialResumed(trial_id=trial_id, level=self.level[trial_id]))
            told = self.sweeps.services.recorder.promised_checkpoint("x", trial_id)
        self.status[trial_id] = "running"
        if told is None:
            assert could == [], f"trial {trial_id} starts from scratch, though {could} could be loaded"
            return
        assert self.owner[told.uri] == trial_id
        self.promised[trial_id] = told.uri

    def loadable(self, trial_id: str) -> list[str]:
        """Return a trial's places where something lies, or could be brought back to from the trash."""
        state = self.sweeps.state()
        found = []
        for uri in state.trial_uris.get(trial_id, []):
            checkpoint = state.checkpoints[uri]
            decision = state.decisions.get(checkpoint.decision_id or "")
            is_there = self.sweeps.store.contents(uri) is not None
            way_back = decision is not None and decision.outcome in {"claimed", "trashed"}
            in_trash = way_back and self.sweeps.store.trash_contents(checkpoint.decision_id or "") is not None
            if (checkpoint.state == "stored" and is_there) or (way_back and (in_trash or is_there)):
                found.append(uri)
        return found

    @rule(trial_id=TRIALS, is_complete=st.booleans())
    def end(self, trial_id: str, *, is_complete: bool) -> None:
        if self.status.get(trial_id) not in {"running", "paused"}:
            return
        self.sweeps.send((TrialCompleted if is_complete else TrialStopped)(trial_id=trial_id))
        self.status[trial_id] = "ended"
        self.promised.pop(trial_id, None)
        stored = [one.uri for one in self.sweeps.state().checkpoints.values() if one.state == "stored"]
        self.kept_by_end |= {uri for uri in stored if self.owner[uri] == trial_id and uri in self.written}

    @rule(trial_id=TRIALS, place=PLACES)
    def pin_or_unpin(self, trial_id: str, place: str) -> None:
        uri = uri_of(trial_id, place)
        checkpoint = self.sweeps.state().checkpoints.get(uri)
        if checkpoint is None:
            return
        if uri in self.pinned:
            self.sweeps.send(CheckpointUnpinned(trial_id=trial_id, uri=uri))
            self.pinned.discard(uri)
        elif checkpoint.state in {"stored", "claimed"}:
            self.sweeps.send(CheckpointPinned(trial_id=trial_id, uri=uri))
            self.pinned.add(uri)

    @rule(trial_id=TRIALS, place=PLACES, is_said=st.booleans())
    def lose(self, trial_id: str, place: str, *, is_said: bool) -> None:
        """Delete what lies at a place by hand."""
        uri = uri_of(trial_id, place)
        if self.sweeps.store.contents(uri) is None:
            return
        self.sweeps.store.remove_checkpoint(uri)
        self.written.pop(uri, None)
        self.kept_by_end.discard(uri)
        if is_said and uri in self.sweeps.state().checkpoints:
            self.sweeps.send(CheckpointMissing(trial_id=trial_id, uri=uri))

    @rule(at_once=st.booleans())
    def sweep(self, *, at_once: bool) -> None:
        report = self.sweep_all(AT_ONCE if at_once else KEEP)
        assert report.untrusted == {}
        state = self.sweeps.state()
        now = self.sweeps.clock.moment
        for decision in state.decisions.values():
            waits = not may_retry(decision.failures, decision.failed_at, now)
            assert decision.outcome == "trashed" or waits
        if state.usage.held_checkpoints > HIGH:
            assert report.exceeded == ["x"]
            assert sum(report.held_back["x"].values()) == state.usage.held_checkpoints

    @rule(step=st.sampled_from(KILLS), at=st.integers(1, 2), at_once=st.booleans())
    def kill_a_sweep(self, step: str, at: int, *, at_once: bool) -> None:
        self._with(killing(step, at=at), lambda: self.sweep_all(AT_ONCE if at_once else KEEP))

    @rule(step=st.sampled_from(STEPS), at_once=st.booleans())
    def sweep_a_store_that_refuses(self, step: str, *, at_once: bool) -> None:
        self._with(refusing(f"before {step}"), lambda: self.sweep_all(AT_ONCE if at_once else KEEP))

    @rule(index=st.integers(0, 5), is_killed=st.booleans())
    def restore(self, index: int, *, is_killed: bool) -> None:
        decisions = self.sweeps.state().decisions | self.state_of_orphans().decisions
        trashed = [one for one, decision in decisions.items() if decision.outcome == "trashed"]
        if trashed:
            hook = killing("after restore") if is_killed else silent
            self._with(hook, lambda: self.sweeps.services.restorer.restore(trashed[index % len(trashed)]))

    @rule(minutes=st.sampled_from([1, 90, 2_000]))
    def tick(self, minutes: int) -> None:
        self.sweeps.wait(timedelta(minutes=minutes))

    @precondition(lambda self: bool(self.status))
    @rule()
    def rebuild(self) -> None:
        self.sweeps.services.rebuilder.rebuild("x", lambda _: None)

    def sweep_all(self, order: SweepOrder) -> SweepReport:
        services = self.sweeps.services
        report = services.sweeper.sweep(services.queries.experiment_ids(), order)
        state = self.sweeps.state()
        for uri in self.orphans.keys() & self.written.keys():
            # What was reported is the trial's by now, wherever it was.
            is_there = self.sweeps.store.contents(uri) is not None
            assert is_there == (state.checkpoints[uri].state == "stored"), f"{uri} was taken for an orphan"
        return report

    def state_of_orphans(self) -> ExperimentState:
        with self.sweeps.services.database.read() as connection:
            return self.sweeps.services.projector.look(connection, ORPHANS_STREAM)

    def payloads(self) -> list[Event]:
        return [event.payload for stream in ("x", ORPHANS_STREAM) for event in self.sweeps.events(stream)]

    def _with(self, hook: Callable[[str, str], None], work: Callable[[], object]) -> None:
        self.sweeps.store.hook = hook
        try:
            work()
        except (Killed, StateRefused, StoreError):
            pass
        finally:
            self.sweeps.store.hook = silent

    @invariant()
    def what_must_not_go_is_there(self) -> None:
        for trial_id, uri in self.promised.items():
            if uri in self.written:
                found = self.sweeps.store.contents(uri)
                assert found == {"weights": self.written[uri]}, f"trial {trial_id} was promised {uri}"
        for uri in self.kept_by_end:
            assert self.sweeps.store.contents(uri) == {"weights": self.written[uri]}, f"{uri} of an ended trial"

    @invariant()
    def nothing_is_deleted_without_an_intent(self) -> None:
        intended = {getattr(one, "decision_id", "") for one in self.payloads() if one.TYPE == "purge_decided"}
        assert set(self.sweeps.store.deleted) <= intended

    @invariant()
    def what_was_written_is_somewhere_or_was_evicted(self) -> None:
        """Each content that the model knows lies at its place or in the trash, or a purge of it is recorded."""
        state = self.sweeps.state()
        for uri, content in self.written.items():
            if self.sweeps.store.contents(uri) == {"weights": content}:
                continue
            assert self.sweeps.store.contents(uri) is None
            assert uri not in self.pinned or state.checkpoints[uri].state != "stored"
            decided = [one for one in self.payloads() if getattr(one, "uri", None) == uri]
            assert any(one.TYPE == "eviction_decided" for one in decided)

    def check(self) -> None:
        """Settle all, and compare with the log."""
        self.sweeps.wait(timedelta(days=2))
        self.sweep_all(KEEP)
        for stream in (*self.sweeps.services.queries.experiment_ids(), DEPLOYMENT_STREAM):
            assert list(self.sweeps.services.rebuilder.verify(stream, lambda _: None)) == []
        for head in self.sweeps.services.auditor.heads():
            assert self.sweeps.services.auditor.verify(head, lambda _: None) is None


def as_ranked(metric: float) -> float:
    return inf if isnan(metric) else metric


class Checked(Deployment):
    def teardown(self) -> None:
        try:
            if self.status:
                self.check()
        finally:
            super().teardown()


TestDeployment = Checked.TestCase
TestDeployment.settings = settings(
    max_examples=settings().max_examples * 3 // 20,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

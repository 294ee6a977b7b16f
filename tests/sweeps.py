"""An experiment with checkpoints in a store that can be made to fail, and what must hold once it is settled."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from quota.domain.events import (
    CheckpointSaved,
    Event,
    ExperimentRegistered,
    LimitSet,
    NewEvent,
    PolicyParameters,
    TrialPaused,
    TrialResumed,
    TrialStarted,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import StoreError
from quota.services.ids import new_id
from quota.services.sweep_order import SweepOrder, SweepReport
from quota.testing.memory_store import MemoryStore
from support import HandClock, services_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from sqlalchemy import Connection

    from quota.bootstrap import Services
    from quota.domain.events import RecordedEvent
    from quota.domain.experiment import Checkpoint, Decision, ExperimentState
    from quota.domain.manifest import Manifest
    from quota.eventlog.log import LockedStream
    from quota.services.recording import Resumption

ROOT = "memory://store/"
BY_LEVEL = PolicyParameters(policy="by_level")
DAY = timedelta(days=1)
KEEP = SweepOrder(BY_LEVEL, DAY)
AT_ONCE = SweepOrder(BY_LEVEL, timedelta())
SIZE = 10


class Killed(BaseException):
    """What ends a process: nothing in the product catches it."""


class WatchedStore(MemoryStore):
    """Calls `hook(step, argument)` before and after each thing that it does, and remembers what it deleted."""

    def __init__(self) -> None:
        super().__init__(ROOT)
        self.hook: Callable[[str, str], None] = silent
        self.deleted: list[str] = []

    def manifest(self, uri: str) -> Manifest:
        self.hook("before manifest", uri)
        return super().manifest(uri)

    def place(self, uri: str) -> str:
        self.hook("before place", uri)
        return super().place(uri)

    def trash(self, uri: str, claim_id: str, manifest: Manifest) -> None:
        self.hook("before trash", uri)
        super().trash(uri, claim_id, manifest)
        self.hook("after trash", uri)

    def restore(self, uri: str, claim_id: str) -> bool:
        self.hook("before restore", uri)
        restored = super().restore(uri, claim_id)
        self.hook("after restore", uri)
        return restored

    def mark(self, text: str) -> None:
        self.hook("before mark", text)
        super().mark(text)
        self.hook("after mark", text)

    def purge(self, claim_id: str, manifest: Manifest) -> None:
        self.hook("before purge", claim_id)
        if self.trashed(claim_id):
            self.deleted.append(claim_id)
        super().purge(claim_id, manifest)
        self.hook("after purge", claim_id)


def killing(step: str, *, at: int = 1) -> Callable[[str, str], None]:
    """Kill the process the `at`-th time that the store comes to `step`."""
    seen: list[str] = []

    def hook(now: str, about: str) -> None:
        seen.extend([about] * (now == step))
        if len(seen) == at and now == step:
            raise Killed

    return hook


def silent(_step: str, _about: str) -> None:
    """Do nothing."""


def kill_at_record(sweeps: Sweeps, event_type: str, patch: pytest.MonkeyPatch, *, committed: bool) -> None:
    """Kill the process just before, or just after, the first event of this type is committed."""
    log, database = sweeps.services.log, sweeps.services.database
    flush, write = log.flush, database.write
    found: list[str] = []

    def flushing(stream: LockedStream) -> None:
        found.extend(row["type"] for row in stream.pending if row["type"] == event_type)
        if found and not committed:
            raise Killed
        flush(stream)

    @contextmanager
    def writing() -> Iterator[Connection]:
        with write() as connection:
            yield connection
        if found:
            raise Killed

    patch.setattr(log, "flush", flushing)
    patch.setattr(database, "write", writing)


def refusing(step: str, part: str = "") -> Callable[[str, str], None]:
    """Refuse `step` for whatever has `part` in its name."""

    def hook(now: str, about: str) -> None:
        if now.startswith(step) and part in about:
            message = f"store {ROOT}: out of order: {about}"
            raise StoreError(message)

    return hook


def uri_of(trial_id: str, place: str = "") -> str:
    return f"{ROOT}{trial_id}{place}/"


@dataclass
class Sweeps:
    """One experiment `x` over a database and a store."""

    services: Services
    clock: HandClock
    store: WatchedStore
    experiment_id: str = "x"

    def prepare(self, trials: int, *, high: int, low: int) -> None:
        """Pause so many trials at level 1, the first being the best; and set a limit."""
        self.services.administration.add_store(ROOT)
        self.limit("experiments", high, low)
        self.send(
            ExperimentRegistered(mode="min", rung_levels=(1, 3), promotion_quantiles=(1 / 3, 1 / 3), max_resource=9)
        )
        for number in range(1, trials + 1):
            self.pause_more(str(number))

    def pause_more(self, trial_id: str) -> None:
        """Start one more trial, and pause it at level 1, with its number for a metric."""
        self.send(TrialStarted(trial_id=trial_id))
        self.pause(trial_id, metric=float(trial_id))

    def limit(self, scope: str, high: int, low: int) -> None:
        self.services.administration.set_limit(LimitSet(scope=scope, measure="checkpoints", high=high, low=low))

    def envelope(self, payload: Event) -> NewEvent:
        return NewEvent(
            event_id=new_id(),
            experiment_id=self.experiment_id,
            occurred_at=self.clock.moment,
            actor="tuner",
            payload=payload,
        )

    def send(self, *payloads: Event) -> None:
        self.services.recorder.append([self.envelope(payload) for payload in payloads])

    def save(self, trial_id: str, place: str = "", *, resource: int = 1, size: int = SIZE) -> None:
        uri = uri_of(trial_id, place)
        self.store.add_checkpoint(uri, {"weights": b"w" * size})
        self.send(CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=size, resource=resource))

    def pause(self, trial_id: str, *, metric: float, level: int = 1) -> None:
        self.save(trial_id, resource=level)
        self.send(TrialPaused(trial_id=trial_id, level=level, metric=metric))

    def resume(self, trial_id: str, level: int = 1) -> Resumption:
        return self.services.recorder.resume_trial(self.envelope(TrialResumed(trial_id=trial_id, level=level)))

    def sweep(self, order: SweepOrder = KEEP) -> SweepReport:
        return self.services.sweeper.sweep([self.experiment_id], order)

    def wait(self, span: timedelta) -> None:
        self.clock.moment += span

    def state(self) -> ExperimentState:
        with self.services.database.read() as connection:
            return self.services.projector.look(connection, self.experiment_id)

    def checkpoint(self, trial_id: str, place: str = "") -> Checkpoint:
        return self.state().checkpoints[uri_of(trial_id, place)]

    def decision(self) -> Decision:
        """Return the one open decision."""
        (decision,) = self.state().decisions.values()
        return decision

    def events(self, stream: str = "x") -> list[RecordedEvent]:
        with self.services.database.read() as connection:
            last = self.services.log.position(connection, stream)
            return list(self.services.log.read(connection, stream, after=0, until=last))

    def types(self) -> list[str]:
        """Return the types of what sweeps and rescues have recorded."""
        of_protocol = ("eviction_", "checkpoint_trashed", "checkpoint_purged", "purge_", "checkpoint_restored")
        types = [event.payload.TYPE for event in self.events()]
        return [one for one in types if one.startswith(of_protocol) or one == "checkpoint_missing"]

    def check_settled(self, *, open_decisions: int = 0) -> None:
        """Check what must hold once a sweep has ended, whatever happened before."""
        state = self.state()
        outcomes = [decision.outcome for decision in state.decisions.values()]
        assert outcomes == ["trashed"] * open_decisions
        lying = [checkpoint for checkpoint in state.checkpoints.values() if self.store.contents(checkpoint.uri)]
        assert {one.uri for one in lying} == {one.uri for one in state.checkpoints.values() if one.state == "stored"}
        assert state.usage.stored_checkpoints == len(lying)
        listed = [self.store.contents(one.uri) or {} for one in lying]
        assert state.usage.stored_bytes == sum(len(content) for files in listed for content in files.values())
        assert (state.usage.claimed_checkpoints, state.usage.claimed_bytes) == (0, 0)
        in_trash = [self.store.trash_contents(decision_id) for decision_id in state.decisions]
        assert None not in in_trash
        assert state.usage.trashed_checkpoints == len(in_trash)
        assert len(self.store.deleted) == len(set(self.store.deleted))
        purged = [event.payload for event in self.events() if event.payload.TYPE == "checkpoint_purged"]
        assert sorted(self.store.deleted) == sorted(getattr(one, "decision_id", "") for one in purged)
        for stream in (self.experiment_id, DEPLOYMENT_STREAM):
            assert list(self.services.rebuilder.verify(stream, lambda _: None)) == []


@contextmanager
def sweeps_over(url: str) -> Iterator[Sweeps]:
    clock, store = HandClock(), WatchedStore()
    with services_over(url, clock, lambda _: store) as services:
        yield Sweeps(services, clock, store)

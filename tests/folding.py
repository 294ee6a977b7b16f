"""A stream without a database: events are admitted, numbered and folded in memory."""

from __future__ import annotations

import dataclasses
import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from quota.domain.admission import admission_refusal
from quota.domain.events import (
    RECORDER_EVENTS,
    CancelReason,
    CheckpointPurged,
    CheckpointRestored,
    CheckpointSaved,
    CheckpointTrashed,
    Event,
    EvictionCancelled,
    EvictionDecided,
    EvictionFailed,
    ExperimentRegistered,
    PolicyParameters,
    PurgeDecided,
    RecordedEvent,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
)
from quota.domain.experiment import IN_TRASH_OUTCOMES, Checkpoint, ExperimentState, Touched
from quota.domain.fold import fold_experiment
from quota.domain.manifest import Manifest, ManifestEntry

START = datetime(2026, 1, 1, tzinfo=UTC)

LEVELS = (1, 3, 9)
REGISTERED = ExperimentRegistered(
    mode="min", rung_levels=LEVELS, promotion_quantiles=(1 / 3, 1 / 3, 1 / 3), max_resource=27
)


def uri_of(trial_id: str, place: str = "") -> str:
    return f"memory://store/trial-{trial_id}{place}/"


@dataclass
class Story:
    """One experiment's stream, told event by event."""

    registered: ExperimentRegistered = REGISTERED
    state: ExperimentState = field(default_factory=lambda: ExperimentState("story"))
    events: list[RecordedEvent] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.add(self.registered)

    def add(self, payload: Event, *, shift: timedelta = timedelta()) -> RecordedEvent:
        """Fold one event more; what a recorder sends must be admitted."""
        if payload.TYPE in RECORDER_EVENTS:
            assert admission_refusal(self.state, payload) is None, admission_refusal(self.state, payload)
        self.seconds += 1
        now = START + timedelta(seconds=self.seconds)
        recorded = RecordedEvent(
            event_id=str(uuid.UUID(int=len(self.events) + 1)),
            experiment_id=self.state.experiment_id,
            position=len(self.events) + 1,
            occurred_at=now + shift,
            recorded_at=now,
            actor="tester",
            payload=payload,
        )
        fold_experiment(self.state, recorded)
        self.events.append(recorded)
        return recorded

    def start(self, *trial_ids: str) -> None:
        for trial_id in trial_ids:
            self.add(TrialStarted(trial_id=trial_id))

    def report(self, trial_id: str, resource: int, metric: float) -> None:
        self.add(TrialReported(trial_id=trial_id, resource=resource, metric=metric))

    def save(self, trial_id: str, place: str = "", *, size_bytes: int = 10, resource: int = 1) -> None:
        uri = uri_of(trial_id, place)
        self.add(CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=size_bytes, resource=resource))

    def pause(
        self, trial_id: str, level: int = 1, metric: float = 0.0, *, place: str = "", size_bytes: int = 10
    ) -> None:
        """Save a checkpoint and pause, as a tuner does at a rung."""
        self.save(trial_id, place, size_bytes=size_bytes, resource=level)
        self.add(TrialPaused(trial_id=trial_id, level=level, metric=metric))

    def resume(self, trial_id: str, level: int = 1) -> None:
        self.add(TrialResumed(trial_id=trial_id, level=level))

    def decide(self, trial_id: str, place: str = "", *, size_bytes: int | None = None) -> str:
        """Claim a checkpoint; returns the decision's id."""
        checkpoint = self.state.checkpoints[uri_of(trial_id, place)]
        return self.decide_on(checkpoint, checkpoint.size_bytes if size_bytes is None else size_bytes)

    def decide_on(self, checkpoint: Checkpoint, size_bytes: int) -> str:
        # No two decisions of any experiments share an id.
        decision_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.state.experiment_id}/{len(self.events)}"))
        self.add(
            EvictionDecided(
                decision_id=decision_id,
                sweep_id=str(uuid.UUID(int=7)),
                trial_id=checkpoint.trial_id,
                uri=checkpoint.uri,
                store_uri="file:///store",
                checkpoint_position=checkpoint.saved_position,
                size_bytes=size_bytes,
                manifest=Manifest.of([ManifestEntry(path="weights", size_bytes=size_bytes, version="v1")]),
                reason="paused",
                state_position=self.state.position,
                place=1,
                limit_scope="experiments",
                limit_high=1,
                limit_low=1,
                usage=2,
                parameters=PolicyParameters(),
            )
        )
        return decision_id

    def trash(self, decision_id: str) -> None:
        self.add(CheckpointTrashed(decision_id=decision_id, trial_id="?"))

    def decide_purge(self, decision_id: str) -> None:
        self.add(PurgeDecided(decision_id=decision_id, trial_id="?"))

    def end_purge(self, decision_id: str, freed_bytes: int = 10) -> None:
        self.add(CheckpointPurged(decision_id=decision_id, trial_id="?", freed_bytes=freed_bytes))

    def purge(self, decision_id: str, freed_bytes: int = 10) -> None:
        self.decide_purge(decision_id)
        self.end_purge(decision_id, freed_bytes)

    def restore(self, decision_id: str) -> None:
        self.add(CheckpointRestored(decision_id=decision_id, trial_id="?"))

    def cancel(self, decision_id: str, reason: CancelReason = "resumed") -> None:
        self.add(EvictionCancelled(decision_id=decision_id, trial_id="?", reason=reason))

    def fail(self, decision_id: str, step: Literal["trash", "purge", "forbidden"] = "trash") -> None:
        self.add(EvictionFailed(decision_id=decision_id, trial_id="?", step=step, error="no"))

    def flags(self) -> list[str]:
        return [reason for _, reason in self.state.touched.flags]


def plain(value: object) -> object:
    """Return a record, and all that it holds, in a form in which equal ones compare equal (NaN included)."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def picture(state: ExperimentState) -> dict[str, object]:
    """Return all that a state says, but for what has not been stored yet."""
    return {
        "position": state.position,
        "experiment": plain(state.experiment),
        "trials": plain(state.trials),
        "rungs": [
            (rung.level, rung.promotion_quantile, plain(rung.entries), plain(list(rung.candidates())))
            for rung in state.rungs.values()
        ],
        "ranks": [list(rung.ranking().rows()) for rung in state.rungs.values()],
        "estimators": plain(state.estimators),
        "pace": dict(state.pace.reports),
        "checkpoints": plain(state.checkpoints),
        # A trial that has none may have an empty list or no entry.
        "trial_uris": {trial_id: uris for trial_id, uris in state.trial_uris.items() if uris},
        "trials_with_superseded": set(state.trials_with_superseded),
        "ended_with_checkpoints": set(state.ended_with_checkpoints),
        "decisions": [(decision_id, plain(decision)) for decision_id, decision in state.decisions.items()],
        "usage": plain(state.usage),
    }


def counted(state: ExperimentState) -> dict[str, int]:
    """Count from the records what the usage should say, without its counters."""
    held = running = 0
    by_trial: dict[str, int] = {}
    sums = {"stored": [0, 0], "claimed": [0, 0]}
    for checkpoint in state.checkpoints.values():
        if checkpoint.state in sums:
            sums[checkpoint.state][0] += 1
            sums[checkpoint.state][1] += checkpoint.size_bytes
        by_trial[checkpoint.trial_id] = by_trial.get(checkpoint.trial_id, 0) + (checkpoint.state == "stored")
    for trial in state.trials.values():
        running += trial.status == "running"
        if trial.status == "running":
            held += max(1, by_trial.get(trial.trial_id, 0))
        elif trial.status == "paused":
            held += by_trial.get(trial.trial_id, 0)
    # What lies in the trash is what open decisions have put there, whatever lies at its place by now.
    in_trash = [one for one in state.decisions.values() if one.outcome in IN_TRASH_OUTCOMES]
    return {
        "held_checkpoints": held,
        "running_trials": running,
        "stored_checkpoints": sums["stored"][0],
        "stored_bytes": sums["stored"][1],
        "claimed_checkpoints": sums["claimed"][0],
        "claimed_bytes": sums["claimed"][1],
        "trashed_checkpoints": len(in_trash),
        "trashed_bytes": sum(one.decided.size_bytes for one in in_trash),
    }


def forget_touched(state: ExperimentState) -> None:
    """Do what storing does."""
    state.touched = Touched()

"""Admissible sequences of events, for Hypothesis: each step is small numbers that are read as what may come next."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st

from folding import LEVELS, REGISTERED, Story
from quota.domain.events import (
    CheckpointMissing,
    CheckpointPinned,
    CheckpointSaved,
    CheckpointUnpinned,
    Event,
    ExperimentFinished,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)

if TYPE_CHECKING:
    from quota.domain.experiment import Checkpoint, ExperimentState, Trial

METRICS = (0.5, 0.25, 0.5, 0.75, -1.5, math.nan, math.inf, -math.inf, 0.0, 0.5)
TIMES = tuple(timedelta(seconds=seconds) for seconds in (0, 0, -3, 0, 0, -8, 0, 0, -500, 86_400))

RECORDER_KINDS = (
    *("start", "report", "save", "pause", "resume") * 4,
    *("cycle",) * 8,
    *("pin", "unpin", "missing", "stop", "register") * 1,
    "finish",
)
EVICTION_KINDS = (*("decide", "trash") * 3, "purge_decided", "purged", "restore", "cancel", "fail")


class Step(NamedTuple):
    """What to try next."""

    kind: str
    trial: int
    number: int


def steps(kinds: tuple[str, ...], *, least: int = 0, most: int = 60) -> st.SearchStrategy[list[Step]]:
    step = st.builds(Step, st.sampled_from(kinds), st.integers(0, 4), st.integers(0, 9))
    return st.lists(step, min_size=least, max_size=most)


def events_for(state: ExperimentState, step: Step) -> list[Event]:
    """Read a step as events that the stream admits now; none where it cannot be read as any."""
    trial_id = f"t{step.trial}"
    trial = state.trials.get(trial_id)
    if step.kind == "register":
        return [REGISTERED]
    if step.kind == "finish":
        # Rarely, or stories would be short.
        return [ExperimentFinished()] if step.number == 0 and step.trial == 0 else []
    if trial is None:
        may_start = state.experiment is not None and state.experiment.finished_at is None
        return [TrialStarted(trial_id=trial_id, bracket=step.number % 2)] if may_start else []
    if step.kind in {"pin", "unpin", "missing"}:
        return _about_checkpoint(state, trial, step)
    return _about_trial(state, trial, step)


def _about_trial(state: ExperimentState, trial: Trial, step: Step) -> list[Event]:
    trial_id, metric = trial.trial_id, METRICS[step.number]
    level = next(level for level in LEVELS if level >= (trial.level or 0) and level >= LEVELS[step.number % 3 // 2])
    reported = TrialReported(trial_id=trial_id, resource=level, metric=metric)
    paused = TrialPaused(trial_id=trial_id, level=level, metric=metric)
    saved = CheckpointSaved(
        trial_id=trial_id,
        uri=_uri(state, trial_id, "" if step.number % 3 else "-b"),
        size_bytes=10 + step.number,
        resource=level,
    )
    may_resume = trial.status == "paused" and state.registered.finished_at is None
    match step.kind:
        case "report":
            # Of a trial that does not run, this is late, and kept.
            return [TrialReported(trial_id=trial_id, resource=(1, 2, 3, 9)[step.number % 4], metric=metric)]
        case "save":
            return [saved]
        case "pause" if trial.status == "running":
            return [paused]
        case "cycle" if trial.status == "running":
            return [reported, saved, paused]
        case "resume" | "cycle" if may_resume:
            return [TrialResumed(trial_id=trial_id, level=trial.level or 0)]
        case "stop":
            ended = (TrialStopped, TrialCompleted, TrialFailed)[step.number % 3]
            return [ended(trial_id=trial_id)]
        case _:
            return []


def _uri(state: ExperimentState, trial_id: str, place: str) -> str:
    return f"memory://store/{state.experiment_id}/{trial_id}{place}/"


def _about_checkpoint(state: ExperimentState, trial: Trial, step: Step) -> list[Event]:
    uris = state.trial_uris.get(trial.trial_id, [])
    if not uris:
        return []
    checkpoint = state.checkpoints[uris[step.number % len(uris)]]
    names = {"trial_id": trial.trial_id, "uri": checkpoint.uri}
    if step.kind == "pin":
        return [CheckpointPinned(**names)] if checkpoint.state in {"stored", "claimed"} else []
    return [CheckpointUnpinned(**names)] if step.kind == "unpin" else [CheckpointMissing(**names)]


def tell(story: Story, told: list[Step]) -> None:
    """Fold what the steps mean, evictions included."""
    for step in told:
        if step.kind in EVICTION_KINDS:
            _evict(story, step)
            continue
        for payload in events_for(story.state, step):
            story.add(payload, shift=TIMES[(step.number + step.trial) % len(TIMES)])


def _evict(story: Story, step: Step) -> None:
    state = story.state
    if step.kind == "decide":
        stored = [one for one in state.checkpoints.values() if one.state == "stored"]
        if stored:
            chosen: Checkpoint = stored[(step.trial * 10 + step.number) % len(stored)]
            story.decide_on(chosen, size_bytes=chosen.size_bytes + step.number % 2)
        return
    before = {"purge_decided": "trashed", "restore": "trashed", "purged": "purging"}.get(step.kind, "claimed")
    if step.kind == "fail":
        before = ("claimed", "trashed", "purging")[step.number % 3]
    waiting = [decision_id for decision_id, one in state.decisions.items() if one.outcome == before]
    if waiting:
        _advance(story, step, waiting[step.number % len(waiting)])


def _advance(story: Story, step: Step, decision_id: str) -> None:
    decision = story.state.decisions[decision_id]
    match step.kind:
        case "trash":
            story.trash(decision_id)
        case "purge_decided":
            story.decide_purge(decision_id)
        case "purged":
            story.end_purge(decision_id, freed_bytes=decision.decided.size_bytes)
        case "restore":
            story.restore(decision_id)
        case "cancel":
            story.cancel(decision_id, ("resumed", "saved_again", "pinned", "missing")[step.number % 4])
        case "fail":
            story.fail(decision_id, "trash" if decision.outcome == "claimed" else "purge")

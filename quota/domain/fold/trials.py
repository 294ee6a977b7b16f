"""How events about an experiment and its trials change the state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from quota.domain.events import (
    Event,
    ExperimentFinished,
    ExperimentRegistered,
    RecordedEvent,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)
from quota.domain.events.base import MAX_INTEGER
from quota.domain.events.trial import TrialEvent
from quota.domain.experiment import (
    EVICTED,
    OVERALL,
    Estimator,
    Experiment,
    ExperimentState,
    Loss,
    Trial,
    TrialStatus,
)
from quota.domain.fold.accounting import count_new_trial, set_trial_status
from quota.domain.fold.timing import happened_at
from quota.domain.rung import Rung
from quota.domain.rung_entry import RungEntry, rank_value

STATUS_AFTER: dict[type[TrialEvent], TrialStatus] = {
    TrialStarted: "running",
    TrialResumed: "running",
    TrialPaused: "paused",
    TrialStopped: "stopped",
    TrialCompleted: "completed",
    TrialFailed: "failed",
}
"""What a trial does after the last of its events of these types, unless it had ended before."""

Handler = Callable[..., None]
"""Takes the state, the event in its envelope, and its payload, which is of the class that it is listed under."""


def _registered(state: ExperimentState, event: RecordedEvent, payload: ExperimentRegistered) -> None:
    if state.experiment is not None:
        state.touched.flags.append((event.position, "registered_before"))
        return
    # A clock that runs ahead would make the elapsed time negative.
    state.experiment = Experiment(
        mode=payload.mode,
        max_resource=payload.max_resource,
        max_wallclock_seconds=payload.max_wallclock_seconds,
        labels=dict(payload.labels),
        started_at=min(event.occurred_at, event.recorded_at),
    )
    for level, quantile in zip(payload.rung_levels, payload.promotion_quantiles, strict=True):
        state.rungs[level] = Rung(level, quantile)
        state.estimators[level] = Estimator()
    state.estimators[OVERALL] = Estimator()
    state.touched.experiment = True
    state.touched.rungs.update(state.rungs)
    state.touched.estimators.update(state.estimators)


def _finished(state: ExperimentState, event: RecordedEvent, _: ExperimentFinished) -> None:
    experiment = state.registered
    if experiment.finished_at is not None:
        state.touched.flags.append((event.position, "finished_before"))
        return
    experiment.finished_at = event.occurred_at
    state.touched.experiment = True
    # Their tuner may have been killed, and nobody else says that they run no more.
    for trial in [one for one in state.trials.values() if one.status == "running"]:
        trial.promised_uri = None
        set_trial_status(state, trial, "stopped")


def _started(state: ExperimentState, event: RecordedEvent, payload: TrialStarted) -> None:
    trial = Trial(
        trial_id=payload.trial_id,
        status="running",
        bracket=payload.bracket,
        started_at=min(event.occurred_at, event.recorded_at),
        timed_at=min(event.occurred_at, event.recorded_at),
    )
    count_new_trial(state, trial)


def _reported(state: ExperimentState, event: RecordedEvent, payload: TrialReported) -> None:
    trial = state.trials[payload.trial_id]
    if trial.status != "running":
        state.touched.flags.append((event.position, "late_report"))
        return
    _note_pace(state, trial, happened_at(state, event), payload.resource)
    trial.resource = payload.resource
    trial.metric = payload.metric
    state.touched.trials.add(trial.trial_id)
    rung = state.rungs.get(payload.resource)
    if rung is None:
        return
    value = rank_value(state.registered.mode, payload.metric)
    ones, total = rung.compare(value, trial.trial_id)
    if total:
        for level in (rung.level, OVERALL):
            state.estimators[level].ones += ones
            state.estimators[level].total += total
            state.touched.estimators.add(level)


def _note_pace(state: ExperimentState, trial: Trial, at: datetime, resource: int) -> None:
    """Time the units of resource since the last report, or since the trial began to run."""
    if trial.timed_at is not None and resource > trial.timed_resource and at > trial.timed_at:
        seconds = (at - trial.timed_at).total_seconds() / (resource - trial.timed_resource)
        state.touched.paces.add(state.pace.add(seconds))
    trial.timed_at, trial.timed_resource = at, resource


def _paused(state: ExperimentState, event: RecordedEvent, payload: TrialPaused) -> None:
    trial = state.trials[payload.trial_id]
    rung = state.rungs[payload.level]
    rung.place(
        RungEntry(
            trial_id=trial.trial_id,
            metric=payload.metric,
            rank_value=rank_value(state.registered.mode, payload.metric),
            placed_position=event.position,
            changed_position=event.position,
        )
    )
    state.touched.rungs.add(rung.level)
    state.touched.rung_entries.add((rung.level, trial.trial_id))
    trial.level = rung.level
    trial.promised_uri = None
    set_trial_status(state, trial, STATUS_AFTER[type(payload)])


def _resumed(state: ExperimentState, event: RecordedEvent, payload: TrialResumed) -> None:
    trial = state.trials[payload.trial_id]
    rung = state.rungs[payload.level]
    entry = rung.entries[trial.trial_id]
    rung.place(
        RungEntry(
            trial_id=entry.trial_id,
            metric=entry.metric,
            rank_value=entry.rank_value,
            placed_position=event.position,
            changed_position=event.position,
            promoted=True,
        )
    )
    state.touched.rung_entries.add((rung.level, trial.trial_id))
    checkpoint = state.newest_stored(trial.trial_id)
    surviving = 0 if checkpoint is None else checkpoint.resource
    lost = max(0, payload.level - surviving)
    _note_loss(state, event, payload, surviving)
    trial.resumed_position = event.position
    # The newest may come back while this one is being loaded, which does not make this one superseded.
    trial.promised_uri = None if checkpoint is None else checkpoint.uri
    trial.timed_at, trial.timed_resource = happened_at(state, event), surviving
    trial.resumes += 1
    trial.lost_resource = min(trial.lost_resource + lost, MAX_INTEGER)
    experiment = state.registered
    experiment.trials_resumed += 1
    experiment.trials_resumed_without_checkpoint += checkpoint is None
    experiment.lost_resource = min(experiment.lost_resource + lost, MAX_INTEGER)
    set_trial_status(state, trial, STATUS_AFTER[type(payload)])


def _note_loss(state: ExperimentState, event: RecordedEvent, payload: TrialResumed, surviving: int) -> None:
    """Say which decision a resume could have loaded more of: what is missing for another reason is nobody's doing."""
    lying = (state.checkpoints[uri] for uri in reversed(state.trial_uris.get(payload.trial_id, [])))
    taken = next((one for one in lying if one.state in {"stored", *EVICTED}), None)
    if taken is None or taken.decision_id is None or taken.state not in EVICTED:
        return
    lost = min(taken.resource, payload.level) - surviving
    if lost <= 0:
        return
    pace = state.pace.median_seconds
    state.touched.losses.append(
        Loss(
            position=event.position,
            decision_id=taken.decision_id,
            trial_id=payload.trial_id,
            lost_resource=lost,
            lost_seconds=None if pace is None else lost * pace,
        )
    )


def _ended(state: ExperimentState, event: RecordedEvent, payload: TrialStopped | TrialCompleted | TrialFailed) -> None:
    trial = state.trials[payload.trial_id]
    if trial.has_ended:
        state.touched.flags.append((event.position, "ended_before"))
        return
    trial.promised_uri = None
    set_trial_status(state, trial, STATUS_AFTER[type(payload)])


HANDLERS: dict[type[Event], Handler] = {
    ExperimentRegistered: _registered,
    ExperimentFinished: _finished,
    TrialStarted: _started,
    TrialReported: _reported,
    TrialPaused: _paused,
    TrialResumed: _resumed,
    TrialStopped: _ended,
    TrialCompleted: _ended,
    TrialFailed: _ended,
}

"""The one fold: it serves catching up, rebuilding and verifying alike.

What it does at each event costs O(log n) in the size of the rung.
"""

from __future__ import annotations

from datetime import timedelta

from quota.domain.events import RecordedEvent
from quota.domain.experiment import ExperimentState
from quota.domain.fold.checkpoints import HANDLERS as CHECKPOINT_HANDLERS
from quota.domain.fold.evictions import HANDLERS as EVICTION_HANDLERS
from quota.domain.fold.trials import HANDLERS as TRIAL_HANDLERS

FUTURE_TOLERANCE = timedelta(minutes=5)
"""How far a sender's clock may run ahead of the database's before its time is no longer used."""

_HANDLERS = TRIAL_HANDLERS | CHECKPOINT_HANDLERS | EVICTION_HANDLERS


def fold_experiment(state: ExperimentState, event: RecordedEvent) -> None:
    """Take the next event of an experiment's stream into `state`.

    Raises:
        KeyError: the event does not belong to an experiment's stream, or names what the stream never introduced.
        ValueError: `event` is not the next one.
    """
    if event.position != state.position + 1:
        message = f"event {event.position} cannot follow event {state.position} of {state.experiment_id}"
        raise ValueError(message)
    state.position = event.position
    _flag_time(state, event)
    _HANDLERS[type(event.payload)](state, event, event.payload)


def _flag_time(state: ExperimentState, event: RecordedEvent) -> None:
    """Flag a time that cannot be right. The event counts, its time is never used for a decision."""
    if event.occurred_at > event.recorded_at + FUTURE_TOLERANCE:
        state.touched.flags.append((event.position, "time_in_future"))
        return
    if state.experiment is None:
        return
    trial_id = event.payload.about_trial
    trial = None if trial_id is None else state.trials.get(trial_id)
    if event.occurred_at < state.experiment.started_at:
        state.touched.flags.append((event.position, "time_before_registration"))
    elif trial is not None and event.occurred_at < trial.started_at:
        state.touched.flags.append((event.position, "time_before_start"))

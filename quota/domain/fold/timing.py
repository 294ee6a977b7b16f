"""Whether the time of an event can be right."""

from __future__ import annotations

from datetime import datetime, timedelta

from quota.domain.events import RecordedEvent
from quota.domain.experiment import ExperimentState

FUTURE_TOLERANCE = timedelta(minutes=5)
"""How far a sender's clock may run ahead of the database's before its time is no longer used."""


def time_flag(state: ExperimentState, event: RecordedEvent) -> str | None:
    """Say why the time of an event cannot be right, or None. The event counts, its time is not used for a decision."""
    if event.occurred_at > event.recorded_at + FUTURE_TOLERANCE:
        return "time_in_future"
    if state.experiment is None:
        return None
    trial_id = event.payload.about_trial
    trial = None if trial_id is None else state.trials.get(trial_id)
    if event.occurred_at < state.experiment.started_at:
        return "time_before_registration"
    if trial is not None and event.occurred_at < trial.started_at:
        return "time_before_start"
    return None


def happened_at(state: ExperimentState, event: RecordedEvent) -> datetime:
    """Return when an event happened, as far as that may be used: never later than it was recorded."""
    if time_flag(state, event) is not None:
        return event.recorded_at
    # A sender's clock that runs ahead a little would date what is written later before this event.
    return min(event.occurred_at, event.recorded_at)

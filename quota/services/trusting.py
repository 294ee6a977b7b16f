"""Asking the log itself about what is to be evicted: rows of projections can be changed, events cannot."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from quota.domain.events import CheckpointPinned, CheckpointUnpinned
from quota.domain.events.trial import TrialEvent
from quota.domain.experiment import ExperimentState
from quota.domain.fold.trials import STATUS_AFTER
from quota.errors import ProjectionDiverged
from quota.eventlog.log import EventLog

_TYPES = (*(event.TYPE for event in STATUS_AFTER), CheckpointPinned.TYPE, CheckpointUnpinned.TYPE)


def require_as_logged(log: EventLog, connection: Connection, state: ExperimentState, trial_ids: Iterable[str]) -> None:
    """Check what trials do, and which of their checkpoints are pinned, against the log.

    Raises:
        ProjectionDiverged: the rows say something else; somebody has changed them.
        LogCorrupt: an event cannot be read.
    """
    status: dict[str, str] = {}
    pinned: dict[str, bool] = {}
    wanted = sorted(set(trial_ids))
    for event in log.of_trials(connection, state.experiment_id, wanted, _TYPES):
        payload = event.payload
        if isinstance(payload, CheckpointPinned | CheckpointUnpinned):
            pinned[payload.uri] = isinstance(payload, CheckpointPinned)
        elif isinstance(payload, TrialEvent):
            status[payload.trial_id] = STATUS_AFTER[type(payload)]
    for trial_id in wanted:
        trial = state.trials[trial_id]
        # A trial that has ended stays so, and later news of its end does not say how it ended.
        by_log = status.get(trial_id, "unknown")
        if by_log != trial.status and not (trial.has_ended and by_log not in {"running", "paused"}):
            raise _diverged(state, f"trial {trial_id} is {trial.status} by its row, and {by_log} by the log")
        for uri in state.trial_uris.get(trial_id, []):
            if state.checkpoints[uri].pinned != pinned.get(uri, False):
                by_row = "pinned" if state.checkpoints[uri].pinned else "not pinned"
                raise _diverged(state, f"checkpoint {uri} is {by_row} by its row, and the log says otherwise")


def _diverged(state: ExperimentState, reason: str) -> ProjectionDiverged:
    return ProjectionDiverged(
        f"projections of experiment {state.experiment_id}: {reason}; check the log (`ckpt-quota audit verify`), then "
        "make them anew (`ckpt-quota rebuild`)"
    )

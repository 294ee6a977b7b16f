"""Making sure of the log before anything is deleted: rows can be changed, but not without a trace."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from math import inf
from time import monotonic

from sqlalchemy import Connection

from quota.domain.events import CheckpointAdopted, CheckpointPinned, CheckpointSaved, CheckpointUnpinned
from quota.domain.events.trial import TrialEvent
from quota.domain.experiment import ExperimentState
from quota.domain.fold.trials import STATUS_AFTER
from quota.errors import LogCorrupt, ProjectionDiverged
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog, LockedStream
from quota.eventlog.verifying import Link, first_fault

_TYPES = (
    *(event.TYPE for event in STATUS_AFTER),
    *(event.TYPE for event in (CheckpointPinned, CheckpointUnpinned, CheckpointSaved, CheckpointAdopted)),
)
_WHOLE_EVERY = timedelta(minutes=10)
"""A process verifies a stream from its beginning once in this time, and in between what has been added."""


class Chains:
    """Verifies streams' chains, and remembers how far it has come: a part of a chain that was verified is trusted.

    Args:
        database: Where the log lies.
        log: How it is read.
    """

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log
        self._verified: dict[str, Link] = {}
        self._whole_at: dict[str, float] = {}

    def require_whole(self, experiment_id: str) -> None:
        """Verify what there is of a stream, without its lock; `require_rest` then has little left to do.

        Raises:
            LogCorrupt: an event was changed, dropped or moved.
        """
        started = monotonic()
        is_whole = started - self._whole_at.get(experiment_id, -inf) >= _WHOLE_EVERY.total_seconds()
        if is_whole:
            self._verified.pop(experiment_id, None)
        with self._database.read() as connection:
            self._require(connection, experiment_id, Link(*self._log.head(connection, experiment_id)))
        if is_whole:
            self._whole_at[experiment_id] = started

    def require_rest(self, stream: LockedStream) -> None:
        """Verify what has been appended to a stream since, under its lock and before anything is added under it.

        Raises:
            LogCorrupt: an event was changed, dropped or moved.
        """
        self._require(stream.connection, stream.experiment_id, Link(stream.position, stream.hash))

    def _require(self, connection: Connection, experiment_id: str, until: Link) -> None:
        after = self._verified.get(experiment_id, Link())
        fault = first_fault(self._log, connection, experiment_id, after=after, until=until)
        if fault is not None:
            self._verified.pop(experiment_id, None)
            raise LogCorrupt(
                f"event {fault.position} of {experiment_id}: {fault.reason}; nothing is deleted that rests on it: find "
                "out who did that, and restore the database from a backup (`ckpt-quota audit verify` shows the rest)"
            )
        self._verified[experiment_id] = until


def require_as_logged(log: EventLog, connection: Connection, state: ExperimentState, trial_ids: Iterable[str]) -> None:
    """Check what trials do, where they have saved checkpoints, and which of these are pinned, against the log.

    Raises:
        ProjectionDiverged: the rows say something else; somebody has changed them.
        LogCorrupt: an event cannot be read.
    """
    status: dict[str, str] = {}
    pinned: dict[str, bool] = {}
    saved: set[tuple[str, str]] = set()
    wanted = sorted(set(trial_ids))
    for event in log.of_trials(connection, state.experiment_id, wanted, _TYPES):
        payload = event.payload
        if isinstance(payload, CheckpointPinned | CheckpointUnpinned):
            pinned[payload.uri] = isinstance(payload, CheckpointPinned)
        elif isinstance(payload, CheckpointSaved | CheckpointAdopted):
            saved.add((payload.trial_id, payload.uri))
        elif isinstance(payload, TrialEvent):
            status[payload.trial_id] = STATUS_AFTER[type(payload)]
    for trial_id in wanted:
        trial = state.trials[trial_id]
        # A trial that has ended stays so, and later news of its end does not say how it ended.
        by_log = status.get(trial_id, "unknown")
        if by_log == "running" and state.registered.finished_at is not None:
            by_log = "stopped"
        if by_log != trial.status and not (trial.has_ended and by_log not in {"running", "paused"}):
            raise _diverged(state, f"trial {trial_id} is {trial.status} by its row, and {by_log} by the log")
        for uri in state.trial_uris.get(trial_id, []):
            if (trial_id, uri) not in saved:
                raise _diverged(state, f"checkpoint {uri} is trial {trial_id}'s by its row, and the log knows of none")
            _require_pin_as_logged(state, uri, is_pinned=pinned.get(uri, False))


def _require_pin_as_logged(state: ExperimentState, uri: str, *, is_pinned: bool) -> None:
    if state.checkpoints[uri].pinned != is_pinned:
        by_row = "pinned" if state.checkpoints[uri].pinned else "not pinned"
        raise _diverged(state, f"checkpoint {uri} is {by_row} by its row, and the log says otherwise")


def _diverged(state: ExperimentState, reason: str) -> ProjectionDiverged:
    return ProjectionDiverged(
        f"projections of experiment {state.experiment_id}: {reason}; check the log (`ckpt-quota audit verify`), then "
        "make them anew (`ckpt-quota rebuild`)"
    )

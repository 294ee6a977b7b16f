"""Making sure of the log before anything is deleted: rows can be changed, but not without a trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import timedelta
from math import inf
from time import monotonic

from sqlalchemy import Connection

from quota.domain.events import TrialReported
from quota.domain.experiment import Checkpoint, ExperimentState, Trial
from quota.domain.fold import HANDLERS, fold_experiment
from quota.errors import LogCorrupt, ProjectionDiverged
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog, LockedStream
from quota.eventlog.verifying import Link, fault_outside, first_fault

_TYPES = frozenset(event.TYPE for event in HANDLERS) - {TrialReported.TYPE}
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
        fault = fault or fault_outside(connection, experiment_id, until.position)
        if fault is not None:
            self._verified.pop(experiment_id, None)
            raise LogCorrupt(
                f"event {fault.position} of {experiment_id}: {fault.reason}; nothing is deleted that rests on it: find "
                "out who did that, and restore the database from a backup (`ckpt-quota audit verify` shows the rest)"
            )
        self._verified[experiment_id] = until


def require_as_logged(log: EventLog, connection: Connection, state: ExperimentState, trial_ids: Iterable[str]) -> None:
    """Compare what trials do, what they were promised, and all their checkpoints, with a fold of their events.

    Args:
        log: How the log is read.
        connection: The transaction that holds the experiment's lock.
        state: The experiment, as its rows have it.
        trial_ids: Which trials.

    Raises:
        ProjectionDiverged: the rows say something else; somebody has changed them.
        LogCorrupt: an event cannot be read.
    """
    wanted = sorted(set(trial_ids))
    logged = _folded(log, connection, state.experiment_id, wanted)
    for trial_id in wanted:
        _require_same_trial(state, trial_id, logged.trials.get(trial_id))
        for uri in (*state.trial_uris.get(trial_id, []), *logged.trial_uris.get(trial_id, [])):
            _require_same_checkpoint(state, trial_id, uri, logged.checkpoints.get(uri))


def _folded(log: EventLog, connection: Connection, experiment_id: str, trial_ids: Sequence[str]) -> ExperimentState:
    """Fold trials' own events, without their reports: what is compared depends on nothing else."""
    found = [
        *log.of_no_trial(connection, experiment_id),
        *log.of_trials(connection, experiment_id, trial_ids, _TYPES),
    ]
    state = ExperimentState(experiment_id)
    for event in sorted(found, key=lambda one: one.position):
        state.position = event.position - 1
        fold_experiment(state, event)
    return state


def _require_same_trial(state: ExperimentState, trial_id: str, logged: Trial | None) -> None:
    trial = state.trials[trial_id]
    by_log = "unknown" if logged is None else logged.status
    if logged is None or trial.status != by_log:
        raise _diverged(state, f"trial {trial_id} is {trial.status} by its row, and {by_log} by the log")
    if trial.promised_uri != logged.promised_uri:
        by_row, promised = (one.promised_uri or "nothing" for one in (trial, logged))
        raise _diverged(state, f"trial {trial_id} was promised {by_row} by its row, and {promised} by the log")


def _require_same_checkpoint(state: ExperimentState, trial_id: str, uri: str, logged: Checkpoint | None) -> None:
    checkpoint = state.checkpoints.get(uri)
    if logged is None:
        raise _diverged(state, f"checkpoint {uri} is trial {trial_id}'s by its row, and the log knows of none")
    if checkpoint is None:
        raise _diverged(state, f"checkpoint {uri} of trial {trial_id} has no row, and is {logged.state} by the log")
    for field in fields(Checkpoint):
        by_row, by_log = getattr(checkpoint, field.name), getattr(logged, field.name)
        if by_row != by_log:
            raise _diverged(state, f"{field.name} of checkpoint {uri} is {by_row} by its row, and {by_log} by the log")


def _diverged(state: ExperimentState, reason: str) -> ProjectionDiverged:
    return ProjectionDiverged(
        f"projections of experiment {state.experiment_id}: {reason}; check the log (`ckpt-quota audit verify`), then "
        "make them anew (`ckpt-quota rebuild`)"
    )

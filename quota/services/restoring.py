"""Taking evictions back: from the trash to the checkpoint's place."""

from __future__ import annotations

from dataclasses import dataclass

from quota.domain.events import CheckpointPinned, CheckpointRestored
from quota.domain.experiment import Decision
from quota.errors import StateRefused
from quota.eventlog.database import Database
from quota.projections.projector import LockedExperiment, Projector
from quota.services.appending import Appender
from quota.services.bringing_back import is_brought_back
from quota.services.fencing import fencing_locked
from quota.services.querying import decision_row
from quota.services.stores import OpenStore, Stores


@dataclass(frozen=True, slots=True)
class Restored:
    """A checkpoint that is back.

    Attributes:
        experiment_id: Its experiment.
        trial_id: Its trial.
        uri: Where it lies again.
        size_bytes: Its size.
    """

    experiment_id: str
    trial_id: str
    uri: str
    size_bytes: int


class Restorer:
    """Restores what a sweep evicted, for as long as the trash holds it.

    Args:
        database: Where the log lies.
        projector: Gives the locks and states.
        appender: In whose name.
        open_store: Opens a store.
    """

    def __init__(self, database: Database, projector: Projector, appender: Appender, open_store: OpenStore) -> None:
        self._database = database
        self._projector = projector
        self._appender = appender
        self._open_store = open_store

    def restore(self, decision_id: str, *, pin: bool = False) -> Restored:
        """Undo one decision.

        Args:
            decision_id: Which.
            pin: Whether to pin the checkpoint at once, before a sweep can evict it again.

        Raises:
            NotFound: there is no such decision.
            StateRefused: there is nothing to undo: it was purged, restored or never carried out.
            StoreError: the store could not move it back; it stays in the trash.
        """
        with self._database.read() as connection:
            found = decision_row(connection, decision_id)
        experiment_id = found.experiment_id
        with self._projector.locked([experiment_id]) as all_locked:
            locked = all_locked[experiment_id]
            decision = locked.state.decisions.get(decision_id)
            if decision is None or decision.outcome not in {"trashed", "forbidden"}:
                raise _nothing_to_undo(decision_id, found.outcome if decision is None else decision.outcome)
            if locked.state.checkpoints[decision.decided.uri].decision_id != decision_id:
                raise _place_taken(decision)
            self._move_back(locked, decision)
            if pin:
                decided = decision.decided
                self._appender.add(locked, CheckpointPinned(trial_id=decided.trial_id, uri=decided.uri))
            self._projector.store(locked)
        decided = decision.decided
        return Restored(experiment_id, decided.trial_id, decided.uri, decided.size_bytes)

    def _move_back(self, locked: LockedExperiment, decision: Decision) -> None:
        decided = decision.decided
        connection = locked.stream.connection
        stores = Stores(self._projector.held_deployment(connection), fencing_locked(self._open_store, connection))
        if not is_brought_back(decision, stores):
            raise _nothing_to_undo(decided.decision_id, "no longer in the trash")
        self._appender.add(locked, CheckpointRestored(decision_id=decided.decision_id, trial_id=decided.trial_id))


def _place_taken(decision: Decision) -> StateRefused:
    reason = "the trial has written a later checkpoint there since; the one in the trash would pass for it"
    return StateRefused(f"decision {decision.decided.decision_id}", "uri", decision.decided.uri, reason)


def _nothing_to_undo(decision_id: str, outcome: str) -> StateRefused:
    reason = "only what is in the trash can be restored; `ckpt-quota evictions --outcome trashed` lists that"
    return StateRefused(f"decision {decision_id}", "outcome", outcome, reason)

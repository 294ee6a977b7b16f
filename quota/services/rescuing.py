"""Seeing to it that a checkpoint lies where a tuner will look for it."""

from __future__ import annotations

import logging

from quota.domain.events import CancelReason, CheckpointMissing, CheckpointRestored, EvictionCancelled, EvictionDecided
from quota.domain.experiment import Checkpoint, Decision
from quota.errors import CheckpointGone, PathRefused, StoreError
from quota.projections.projector import LockedExperiment, Projector
from quota.services.appending import Appender
from quota.services.bringing_back import is_brought_back
from quota.services.fencing import fencing_locked
from quota.services.looking import looked_at
from quota.services.stores import OpenStore, Stores
from quota.services.taken_orphans import is_taken_for_an_orphan

logger = logging.getLogger(__name__)


class Rescuer:
    """Brings checkpoints back from the trash, and looks whether they are there; always under the stream's lock.

    A store that fails is no reason to refuse an event: what cannot be seen is taken to be as the log says.

    Args:
        appender: In whose name.
        projector: Says which stores there are.
        open_store: Opens one.
    """

    def __init__(self, appender: Appender, projector: Projector, open_store: OpenStore) -> None:
        self._appender = appender
        self._projector = projector
        self._open_store = open_store

    def rescue_for_resume(self, locked: LockedExperiment, trial_id: str) -> None:
        """Make sure of the newest checkpoint of a trial that is about to be resumed, or of the next older one."""
        state = locked.state
        stores = self._stores(locked)
        for uri in reversed(state.trial_uris.get(trial_id, [])):
            checkpoint = state.checkpoints[uri]
            if checkpoint.state == "stored":
                if self._is_there(locked, checkpoint, stores):
                    return
                continue
            decision = _decision_about(locked, checkpoint)
            if decision is not None and self._is_undone(locked, decision, stores, "resumed"):
                return

    def bring_back_for_resume(self, locked: LockedExperiment, trial_id: str) -> None:
        """Bring the newest checkpoint of a trial back that a resume speaks of which has happened already.

        What is stored is not looked at: whoever asks what was promised does that.
        """
        state = locked.state
        for uri in reversed(state.trial_uris.get(trial_id, [])):
            checkpoint = state.checkpoints[uri]
            if checkpoint.state == "stored":
                return
            decision = _decision_about(locked, checkpoint)
            if decision is not None and self._is_undone(locked, decision, self._stores(locked), "resumed"):
                return

    def may_be_elsewhere(self, locked: LockedExperiment, uri: str) -> bool:
        """Tell whether what a trial says to have saved at `uri` may lie in the trash, or be gone by now.

        A trial may have written it before an eviction that took it for its predecessor.
        """
        checkpoint = locked.state.checkpoints.get(uri)
        return checkpoint is not None and checkpoint.decision_id in locked.state.decisions

    def bring_back_for_save(self, locked: LockedExperiment, uri: str) -> None:
        """Move what lies in the trash back to `uri`, unless the trial has written there since."""
        decision = _decision_about(locked, locked.state.checkpoints[uri])
        if decision is not None:
            self._is_undone(locked, decision, self._stores(locked), "saved_again")

    def bring_back_orphan(self, locked: LockedExperiment, decision_id: str) -> None:
        """Move an orphan back from the trash that a trial has reported since."""
        decision = locked.state.decisions.get(decision_id)
        if decision is not None and decision.can_be_undone:
            self._is_undone(locked, decision, self._stores(locked), "reported")

    def is_to_be_loaded(self, locked: LockedExperiment, uri: str) -> bool:
        """Make sure of a checkpoint of a trial that runs: it is at its place, or comes back from the trash.

        What may lie in the trash as an orphan is not there now, and nobody knows that it is missing.
        """
        checkpoint, stores = locked.state.checkpoints[uri], self._stores(locked)
        if checkpoint.state == "stored":
            if is_taken_for_an_orphan(locked.stream.connection, uri):
                return self._lies_there(checkpoint, stores)
            return self._is_there(locked, checkpoint, stores)
        decision = _decision_about(locked, checkpoint)
        return decision is not None and self._is_undone(locked, decision, stores, "needed")

    def look_for(self, locked: LockedExperiment, uri: str) -> None:
        """Record a stored checkpoint as missing where its store has nothing at its place."""
        self._is_there(locked, locked.state.checkpoints[uri], self._stores(locked))

    def _stores(self, locked: LockedExperiment) -> Stores:
        connection = locked.stream.connection
        return Stores(self._projector.held_deployment(connection), fencing_locked(self._open_store, connection))

    def _is_there(self, locked: LockedExperiment, checkpoint: Checkpoint, stores: Stores) -> bool:
        if self._lies_there(checkpoint, stores) or self.is_found_again(locked, checkpoint, stores):
            return True
        self._appender.add(locked, CheckpointMissing(trial_id=checkpoint.trial_id, uri=checkpoint.uri))
        return False

    def _lies_there(self, checkpoint: Checkpoint, stores: Stores) -> bool:
        """Look whether a checkpoint is at its place."""
        if stores.root_of(checkpoint.uri) is None:
            return True
        try:
            looked_at(stores.holding(checkpoint.uri), checkpoint.uri, checkpoint.size_bytes)
        except CheckpointGone:
            return False
        except (StoreError, PathRefused) as error:
            logger.warning("checkpoint %s is taken to be there, unseen: %s", checkpoint.uri, error)
        return True

    def is_found_again(self, locked: LockedExperiment, checkpoint: Checkpoint, stores: Stores) -> bool:
        """Look in the trash for a stored checkpoint that is not at its place, and move it back.

        A process that was frozen before a move may have made it after its claim was given up, and been killed before
        it could undo that.
        """
        connection, experiment_id = locked.stream.connection, locked.state.experiment_id
        decided_before = self._appender.log.last_of_trial(
            connection, experiment_id, checkpoint.trial_id, EvictionDecided.TYPE
        )
        for event in decided_before:
            decided = event.payload
            if not isinstance(decided, EvictionDecided) or decided.decision_id in locked.state.decisions:
                continue
            if (decided.uri, decided.checkpoint_position) != (checkpoint.uri, checkpoint.saved_position):
                continue
            try:
                if stores.at(decided.store_uri).restore(decided.uri, decided.decision_id):
                    logger.warning("checkpoint %s was in the trash without a claim, and is back", decided.uri)
                    return True
            except (StoreError, PathRefused) as error:
                logger.warning("checkpoint %s cannot be brought back: %s", decided.uri, error)
        return False

    def _is_undone(
        self,
        locked: LockedExperiment,
        decision: Decision,
        stores: Stores,
        why: CancelReason,
    ) -> bool:
        """End a decision so that its checkpoint lies at its place, if that can be done."""
        decided = decision.decided
        ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
        try:
            if not is_brought_back(decision, stores):
                return False
        except (StoreError, PathRefused) as error:
            logger.warning("checkpoint %s cannot be brought back: %s", decided.uri, error)
            return False
        if decision.outcome == "claimed":
            self._appender.add(locked, EvictionCancelled(**ids, reason=why))
        else:
            self._appender.add(locked, CheckpointRestored(**ids))
        return True


def _decision_about(locked: LockedExperiment, checkpoint: Checkpoint) -> Decision | None:
    """Return the decision that a checkpoint can be brought back from; None where there is none, or no way back."""
    decision = locked.state.decisions.get(checkpoint.decision_id or "")
    return decision if decision is not None and decision.can_be_undone else None

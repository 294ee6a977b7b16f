"""From the claim to the trash."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from quota.domain.deployment import DeploymentState
from quota.domain.events import (
    CancelReason,
    CheckpointTrashed,
    Event,
    EvictionCancelled,
    EvictionDecided,
    EvictionFailed,
)
from quota.domain.experiment import Decision, ExperimentState, may_retry
from quota.errors import CheckpointGone, LeaseLost, PathRefused, StoreError
from quota.ports import CheckpointStore
from quota.projections.projector import LockedExperiment
from quota.services.aliases import Aliases
from quota.services.links import linked_with
from quota.services.looking import Successors
from quota.services.named_places import Name
from quota.services.objecting import objection_to
from quota.services.open_decisions import OpenDecisions
from quota.services.stores import Stores
from quota.services.tally import about

logger = logging.getLogger(__name__)

_BROUGHT_BACK_FOR = frozenset({"pinned", "ended", "needed", "reported", "not_called_for"})


class Settler:
    """Settles claims: after a crash at any point, calling it again finishes the work.

    Args:
        decisions: What is to be done.
        aliases: Says what else may lie at the same place by now.
    """

    def __init__(self, decisions: OpenDecisions, aliases: Aliases) -> None:
        self._decisions = decisions
        self._aliases = aliases
        self._successors = Successors(decisions.stores)

    def has_claims(self, experiment_id: str) -> bool:
        """Tell whether earlier sweeps left claims that can be settled by now."""
        return bool(self._decisions.find(experiment_id, self._to_settle))

    def settle_claims(self, experiment_id: str, moved: Callable[[], None]) -> None:
        """Move all claimed checkpoints to the trash, as far as their claims still hold."""
        for batch in self._decisions.batches(experiment_id, self._to_settle):
            trashed: list[EvictionDecided] = []
            self._aliases.refresh()
            try:
                work = partial(self._settle, moved=moved, trashed=trashed)
                self._decisions.with_each(experiment_id, batch, work, partial(self._committed, trashed))
            except Exception:
                _put_back(trashed, self._decisions.stores)
                raise

    def _committed(self, trashed: list[EvictionDecided]) -> None:
        """Forget what was moved and seen under a lock that is given back."""
        trashed.clear()
        self._successors.forget()

    def _settle(
        self,
        locked: LockedExperiment,
        decision: Decision,
        *,
        moved: Callable[[], None],
        trashed: list[EvictionDecided],
    ) -> None:
        """Settle a claim, and note in `trashed` what that moves."""
        # What a store that is out of order has not been asked for stays claimed, and the next sweep asks for it.
        if decision.outcome == "claimed" and decision.decided.store_uri not in self._decisions.stores.suspended:
            # Asked before each move: a process may be frozen between any two of them.
            self._decisions.lease.require(locked.stream.connection)
            reason = self._objection(locked, decision.decided)
            require_alone = partial(self._require_alone, locked.state, decision.decided)
            work = partial(_settled, decision.decided, reason, self._decisions.stores, trashed, require_alone)
            self._decisions.add(locked, self._decisions.keeping(locked, work))
        moved()

    def _objection(self, locked: LockedExperiment, decided: EvictionDecided) -> CancelReason | None:
        reason = objection_to(locked, decided, self._decisions.deployment)
        if locked.state.checkpoints[decided.uri].decision_id != decided.decision_id:
            reason = reason or "saved_again"
        if not self._decisions.stores.allows(decided.store_uri):
            reason = reason or "store_removed"
        if not _is_called_for(locked.state, decided, self._decisions.deployment):
            reason = reason or "not_called_for"
        if reason is None and decided.reason == "superseded" and self._has_lost_successor(locked, decided):
            reason = "needed"
        return reason

    def _has_lost_successor(self, locked: LockedExperiment, decided: EvictionDecided) -> bool:
        """Look whether what has superseded a checkpoint is still there: the claim may be an earlier sweep's."""
        successor = locked.state.successor_of(locked.state.checkpoints[decided.uri])
        if successor is None:
            return True
        look = partial(self._successors.is_gone, successor.uri, successor.size_bytes)
        return self._decisions.keeping(locked, look)

    def _require_alone(self, state: ExperimentState, decided: EvictionDecided, store: CheckpointStore) -> None:
        """Check that nobody has reported since the claim what is to be moved, under another name, or links into it."""
        newest = state.newest_stored(decided.trial_id)
        # Of an orphan no trial is the owner.
        trial_id = "" if decided.reason == "orphan" else decided.trial_id
        name = Name(state.experiment_id, trial_id, decided.uri)
        self._aliases.require_none(name, decided.uri if newest is None else newest.uri, decided.store_uri, store)
        uris = state.trial_uris.get(decided.trial_id, [])
        others = [uri for uri in uris if state.checkpoints[uri].state == "stored"]
        linked = linked_with(decided.uri, others, decided.store_uri, self._decisions.stores)
        if linked is not None:
            reason = f"it and its trial's checkpoint {linked} are linked, and one is worth nothing without the other"
            raise PathRefused("checkpoint", "uri", decided.uri, reason)

    def _to_settle(self, _: LockedExperiment, decision: Decision) -> bool:
        now = self._decisions.now()
        return decision.outcome == "claimed" and may_retry(decision.failures, decision.failed_at, now)


def _is_called_for(state: ExperimentState, decided: EvictionDecided, deployment: DeploymentState) -> bool:
    """Tell whether the limit still asks for an eviction: it may be another one by now, or trials hold less.

    Claims are settled in the order in which they were made, so that the last ones are given up where fewer will do.
    What others hold under a limit that experiments share cannot be told under one's lock.
    """
    if decided.limit_scope is None:
        return True
    measure = decided.limit_measure or "checkpoints"
    limit = deployment.limit_of(state.experiment_id, decided.limit_scope, measure)
    if limit is None:
        return False
    is_same = (limit.scope, limit.high, limit.low) == (decided.limit_scope, decided.limit_high, decided.limit_low)
    if limit.parsed_scope.is_shared:
        return is_same
    usage = state.usage
    used = usage.held_checkpoints + usage.claimed_checkpoints if measure == "checkpoints" else usage.used_bytes
    return used > (limit.low if is_same else limit.high)


def _settled(
    decided: EvictionDecided,
    reason: CancelReason | None,
    stores: Stores,
    trashed: list[EvictionDecided],
    require_alone: Callable[[CheckpointStore], None],
) -> Event:
    """Do the store's part of a claim, under the stream's lock, and return what to record.

    Where the store does not even say whether a sweep that was killed has moved the checkpoint, the claim stays open,
    or the checkpoint would pass for stored while it lies in the trash.
    """
    ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
    try:
        store = stores.at(decided.store_uri)
        if reason is None:
            if not store.trashed(decided.decision_id):
                require_alone(store)
                trashed.append(decided)
            stores.taken_from(decided.store_uri).trash(decided.uri, decided.decision_id, decided.manifest)
            stores.note_answer(decided.store_uri)
            return CheckpointTrashed(**ids)
        if store.trashed(decided.decision_id):
            # A sweep was killed between the move and its record, and then the claim lost its reason.
            if reason in _BROUGHT_BACK_FOR and store.restore(decided.uri, decided.decision_id):
                return EvictionCancelled(**ids, reason=reason)
            return CheckpointTrashed(**ids)
    except CheckpointGone:
        return EvictionCancelled(**ids, reason="missing")
    except (StoreError, PathRefused) as error:
        return _refused(decided, stores, error)
    return EvictionCancelled(**ids, reason=reason)


def _refused(decided: EvictionDecided, stores: Stores, error: Exception) -> Event:
    """Find out what became of a move that was refused or cut off."""
    stores.note_refusal(decided.store_uri, error)
    ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
    try:
        moved = stores.at(decided.store_uri).trashed(decided.decision_id)
    except (StoreError, PathRefused) as unknown:
        untold = f"{error}; whether it was moved cannot be told: {unknown}"
        return EvictionFailed(**ids, step="look", error=about(decided, untold))
    return CheckpointTrashed(**ids) if moved else EvictionFailed(**ids, step="trash", error=about(decided, error))


def _put_back(trashed: Sequence[EvictionDecided], stores: Stores) -> None:
    """Undo moves whose record was not committed.

    This process may have been frozen before the moves, until its lease and its transaction were gone and a resume was
    promised what it has moved now.
    """
    for decided in trashed:
        try:
            stores.at(decided.store_uri).restore(decided.uri, decided.decision_id)
        except (StoreError, PathRefused, LeaseLost) as error:
            logger.warning("checkpoint %s stays in the trash: %s", decided.uri, error)

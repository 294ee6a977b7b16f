"""Looking after what lies in the trash."""

from __future__ import annotations

import logging
from functools import partial

from quota.domain.events import CheckpointRestored
from quota.domain.experiment import Decision
from quota.domain.identifiers import ORPHANS_STREAM
from quota.errors import PathRefused, StoreError
from quota.projections.projector import LockedExperiment
from quota.services.bringing_back import is_brought_back
from quota.services.objecting import is_wanted_back
from quota.services.open_decisions import OpenDecisions, batched
from quota.services.purging import next_step

logger = logging.getLogger(__name__)


class TrashKeeper:
    """Sees to it that the log and the trash say the same, and that what belongs at its place comes back.

    Args:
        decisions: What is to be done.
    """

    def __init__(self, decisions: OpenDecisions) -> None:
        self._decisions = decisions

    def look_after_trash(self, experiment_id: str) -> None:
        """Record what a process moved back that was killed before it could say so, and bring back what is wanted.

        A checkpoint can be pinned while it is claimed, and a sweep that was killed may have moved it by then. An
        orphan's place can be reported at any time.
        """
        if experiment_id == ORPHANS_STREAM:
            self._decisions.reported.look_around()
        wanted = [one.decided.decision_id for one in self._decisions.find(experiment_id, self._is_wanted_back)]
        for batch in batched(wanted):
            self._decisions.with_each(experiment_id, batch, self._bring_back)
        missing, half_restored = self._out_of_order(experiment_id)
        for batch in batched(missing):
            self._decisions.with_each(experiment_id, batch, self._note_restored)
        for batch in batched(half_restored):
            self._decisions.with_each(experiment_id, batch, self._finish_restore)

    def _bring_back(self, locked: LockedExperiment, decision: Decision) -> None:
        if self._is_wanted_back(locked, decision):
            self._restore(locked, decision)

    def _restore(self, locked: LockedExperiment, decision: Decision) -> None:
        if decision.decided.store_uri in self._decisions.stores.suspended:
            return
        decided = decision.decided
        try:
            is_back = self._decisions.keeping(locked, partial(is_brought_back, decision, self._decisions.stores))
        except (StoreError, PathRefused) as error:
            self._decisions.stores.note_refusal(decided.store_uri, error)
            logger.warning("checkpoint %s belongs at its place, and cannot be brought back: %s", decided.uri, error)
            return
        if is_back:
            self._decisions.add(locked, CheckpointRestored(decision_id=decided.decision_id, trial_id=decided.trial_id))

    def _is_wanted_back(self, locked: LockedExperiment, decision: Decision) -> bool:
        return is_wanted_back(locked, decision, self._decisions.reported, self._decisions.deployment)

    def _out_of_order(self, experiment_id: str) -> tuple[list[str], list[str]]:
        """Find what the log calls trashed and the trash has nothing of, and what it may have given back in part."""
        trashed = [one.decided for one in self._decisions.find(experiment_id, _is_trashed)]
        missing: list[str] = []
        half_restored: list[str] = []
        stores = self._decisions.stores
        for root in sorted({decided.store_uri for decided in trashed} - stores.suspended.keys()):
            try:
                claims, unsettled = stores.claims_at(root), stores.unsettled_at(root)
            except (StoreError, PathRefused) as error:
                stores.note_refusal(root, error)
                logger.info("the trash of store %s cannot be looked at: %s", root, error)
                continue
            here = [one.decision_id for one in trashed if one.store_uri == root]
            missing += [decision_id for decision_id in here if decision_id not in claims]
            half_restored += [decision_id for decision_id in here if decision_id in unsettled]
        return missing, half_restored

    def _note_restored(self, locked: LockedExperiment, decision: Decision) -> None:
        if decision.outcome == "trashed" and decision.decided.store_uri not in self._decisions.stores.suspended:
            event = self._decisions.keeping(locked, partial(next_step, decision, self._decisions.stores))
            if isinstance(event, CheckpointRestored):
                self._decisions.add(locked, event)

    def _finish_restore(self, locked: LockedExperiment, decision: Decision) -> None:
        """Finish a restore that was cut off, so that no part of it lies at the place while the log says `trashed`."""
        decided = decision.decided
        is_own = locked.state.checkpoints[decided.uri].decision_id == decided.decision_id
        if decision.outcome == "trashed" and is_own and not _starts_anew(locked, decision):
            self._restore(locked, decision)


def _starts_anew(locked: LockedExperiment, decision: Decision) -> bool:
    """Tell whether a trial runs that was resumed without what a decision has evicted: it may just be writing there."""
    trial = locked.state.trials.get(decision.decided.trial_id)
    return trial is not None and trial.status == "running" and (trial.resumed_position or 0) > decision.decided_position


def _is_trashed(_: LockedExperiment, decision: Decision) -> bool:
    return decision.outcome == "trashed"

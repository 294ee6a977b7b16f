"""From the trash to nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from quota.domain.events import CheckpointPurged, CheckpointRestored, Event, EvictionFailed, PurgeDecided
from quota.domain.experiment import IN_TRASH_OUTCOMES, Decision, may_retry
from quota.errors import DeletionForbidden, PathRefused, StoreError
from quota.eventlog.locations import hold_locations
from quota.projections.projector import LockedExperiment
from quota.services.bringing_back import is_at_its_place
from quota.services.objecting import is_wanted_back
from quota.services.open_decisions import OpenDecisions
from quota.services.stores import Stores
from quota.services.sweep_order import SweepOrder
from quota.services.tally import about


class Purger:
    """Deletes for good: after a crash at any point, calling it again finishes the work.

    Args:
        decisions: What is to be done.
        require_clock: Checks that the clock can be right, by which it is due.
    """

    def __init__(self, decisions: OpenDecisions, require_clock: Callable[[], None]) -> None:
        self._decisions = decisions
        self._require_clock = require_clock

    def has_due(self, experiment_id: str, order: SweepOrder) -> bool:
        """Tell whether the trash holds what is to be deleted by now."""
        return bool(self._decisions.find(experiment_id, self._due(order)))

    def purge_trash(self, experiment_id: str, order: SweepOrder) -> None:
        """Delete for good what has been in the trash for long enough, and finish purges begun.

        Raises:
            ClockJumped: the clock was set since the sweep began, so that nobody knows what is due.
        """
        self._purge(experiment_id, self._due(order))

    def purge_at_once(self, experiment_id: str, decision_ids: Sequence[str], order: SweepOrder) -> None:
        """Delete for good what makes room that is needed, however long it has been in the trash."""
        wanted, at_once = frozenset(decision_ids), self._due(replace(order, retention=timedelta()))
        self._purge(
            experiment_id,
            lambda locked, decision: decision.decided.decision_id in wanted and at_once(locked, decision),
        )

    def _purge(self, experiment_id: str, is_due: Callable[[LockedExperiment, Decision], bool]) -> None:
        for batch in self._decisions.batches(experiment_id, is_due):
            # By a clock that was set ahead in the middle of a sweep, everything is due at once.
            self._require_clock()
            begun: list[Decision] = []
            # From here on a resume is told that these are gone.
            self._decisions.with_each(experiment_id, batch, partial(self._begin_purge, begun=begun))
            ended = {
                decision.decided.decision_id: self._purged(decision) for decision in begun if self._is_allowed(decision)
            }
            self._decisions.with_each(experiment_id, list(ended), partial(self._record_purge, ended=ended))

    def _begin_purge(self, locked: LockedExperiment, decision: Decision, *, begun: list[Decision]) -> None:
        if not self._may_be_purged(locked, decision):
            return
        if decision.outcome != "purging":
            event = self._decisions.keeping(locked, partial(next_step, decision, self._decisions.stores))
            if decision.decided.reason == "orphan":
                # Whoever is about to report a checkpoint there is waited for, and from here on comes too late.
                hold_locations(locked.stream.connection)
                if is_wanted_back(locked, decision, self._decisions.reported, self._decisions.deployment):
                    return
            self._decisions.add(locked, event)
            if not isinstance(event, PurgeDecided):
                return
        begun.append(decision)

    def _is_allowed(self, decision: Decision) -> bool:
        """Ask before each deletion: an operator may take a store away in the middle of a batch."""
        self._decisions.look_at_stores()
        return self._decisions.stores.allows(decision.decided.store_uri)

    def _purged(self, decision: Decision) -> CheckpointPurged | EvictionFailed:
        self._decisions.lease.keep()
        decided = decision.decided
        ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
        try:
            store = self._decisions.lease.keeping(lambda: self._decisions.stores.taken_from(decided.store_uri))
            self._decisions.lease.keeping(lambda: store.purge(decided.decision_id, decided.manifest))
        except DeletionForbidden as error:
            return EvictionFailed(**ids, step="forbidden", error=about(decided, error))
        except (StoreError, PathRefused) as error:
            self._decisions.stores.note_refusal(decided.store_uri, error)
            return EvictionFailed(**ids, step="purge", error=about(decided, error))
        self._decisions.stores.note_answer(decided.store_uri)
        return CheckpointPurged(**ids, freed_bytes=decided.manifest.size_bytes)

    def _record_purge(
        self, locked: LockedExperiment, decision: Decision, *, ended: Mapping[str, CheckpointPurged | EvictionFailed]
    ) -> None:
        self._decisions.add(locked, ended[decision.decided.decision_id])

    def _due(self, order: SweepOrder) -> Callable[[LockedExperiment, Decision], bool]:
        now = self._decisions.now()

        def is_due(locked: LockedExperiment, decision: Decision) -> bool:
            match decision.outcome:
                case "forbidden":
                    is_late = order.retry_forbidden
                case "purging":
                    is_late = may_retry(decision.failures, decision.failed_at, now)
                case _:
                    in_trash_since = decision.outcome_at or now
                    is_late = in_trash_since + order.retention <= now
                    is_late = is_late and may_retry(decision.failures, decision.failed_at, now)
            return is_late and self._may_be_purged(locked, decision)

        return is_due

    def _may_be_purged(self, locked: LockedExperiment, decision: Decision) -> bool:
        """Tell whether what a decision has put into the trash may be deleted from there."""
        root, stores = decision.decided.store_uri, self._decisions.stores
        if decision.outcome not in IN_TRASH_OUTCOMES or not stores.allows(root) or root in stores.suspended:
            return False
        return not is_wanted_back(locked, decision, self._decisions.reported, self._decisions.deployment)


def next_step(decision: Decision, stores: Stores) -> Event:
    """Say what comes next for a trashed checkpoint: usually that it is purged.

    A restore may have been cut off after the move back and before its record: then it is restored. And what would be
    refused later, when there is no way back, is refused now.
    """
    decided = decision.decided
    ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
    try:
        store = stores.at(decided.store_uri)
        if store.trashed(decided.decision_id):
            store.require_purgeable(decided.decision_id, decided.manifest)
        elif is_at_its_place(decision, store):
            return CheckpointRestored(**ids)
    except (StoreError, PathRefused) as error:
        stores.note_refusal(decided.store_uri, error)
        return EvictionFailed(**ids, step="purge", error=about(decided, error))
    return PurgeDecided(**ids)

"""Carrying decisions out: from the claim to the trash, and from the trash to nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeVar

from quota.domain.eligibility import objection
from quota.domain.events import (
    CheckpointMissing,
    CheckpointPurged,
    CheckpointRestored,
    CheckpointTrashed,
    Event,
    EvictionCancelled,
    EvictionDecided,
    EvictionFailed,
    PurgeDecided,
)
from quota.domain.experiment import Decision, ExperimentState, may_retry
from quota.errors import CheckpointGone, PathRefused, StoreError
from quota.projections.projector import LockedExperiment
from quota.services.appending import Appender
from quota.services.bringing_back import is_at_its_place, is_brought_back
from quota.services.fencing import FencedStreams
from quota.services.stores import Stores

logger = logging.getLogger(__name__)

T = TypeVar("T")

_BROUGHT_BACK_FOR = frozenset({"pinned", "ended", "needed"})
_LONGEST_ERROR = 2_000
_MOVES_A_LOCK = 32
"""How many checkpoints are moved while a stream's lock is held: a resume waits no longer than that takes."""


@dataclass(slots=True)
class Tally:
    """What became of decisions.

    Attributes:
        decided: Evictions decided.
        evicted: Checkpoints moved to the trash.
        purged: Checkpoints deleted for good.
        failed: Steps that the store refused.
        cancelled: Evictions given up.
        missing: URIs of checkpoints that were not where the log said they were.
        freed_bytes: Bytes freed.
        errors: What the store said.
    """

    decided: int = 0
    evicted: int = 0
    purged: int = 0
    failed: int = 0
    cancelled: int = 0
    missing: list[str] = field(default_factory=list)
    freed_bytes: int = 0
    errors: list[str] = field(default_factory=list)

    def note(self, event: Event) -> None:
        """Count an event of the protocol."""
        match event:
            case CheckpointTrashed():
                self.evicted += 1
            case EvictionCancelled():
                self.cancelled += 1
            case CheckpointMissing():
                self.missing.append(event.uri)
            case CheckpointPurged():
                self.purged += 1
                self.freed_bytes += event.freed_bytes
            case EvictionFailed():
                self.failed += 1
                self.errors.append(event.error)
            case _:
                pass


class Evictor:
    """Carries out what was decided; after a crash at any point, calling it again finishes the work.

    Args:
        appender: In whose name.
        streams: Gives the locks and states.
        stores: Where checkpoints lie.
        tally: Is told what became of decisions.
        should_stop: Whether to leave the rest to the next sweep; asked between two batches.
    """

    def __init__(
        self,
        appender: Appender,
        streams: FencedStreams,
        stores: Stores,
        tally: Tally,
        should_stop: Callable[[], bool],
    ) -> None:
        self._appender = appender
        self._streams = streams
        self._projector = streams.projector
        self._stores = stores
        self._tally = tally
        self._should_stop = should_stop

    def has_work(self, experiment_id: str, retention: timedelta) -> bool:
        """Tell whether earlier sweeps left anything to do: claims to settle, or trash that is due."""
        is_due = self._due(retention)
        return bool(
            self._decisions(
                experiment_id, lambda state, decision: self._to_settle(state, decision) or is_due(state, decision)
            )
        )

    def has_due(self, experiment_id: str, retention: timedelta) -> bool:
        """Tell whether the trash holds what is to be deleted by now."""
        return bool(self._decisions(experiment_id, self._due(retention)))

    def settle_claims(self, experiment_id: str, moved: Callable[[], None]) -> None:
        """Move all claimed checkpoints to the trash, as far as their claims still hold."""
        for batch in self._batches(experiment_id, self._to_settle):
            trashed: list[EvictionDecided] = []
            try:
                self._with_each(experiment_id, batch, partial(self._settle, moved=moved, trashed=trashed))
            except Exception:
                _put_back(trashed, self._stores)
                raise

    def look_after_trash(self, experiment_id: str) -> None:
        """Record what a process moved back that was killed before it could say so, and bring back what is pinned.

        A checkpoint can be pinned while it is claimed, and a sweep that was killed may have moved it by then.
        """
        pinned = self._decisions(experiment_id, _is_pinned_in_trash)
        if pinned:
            for batch in batched(pinned):
                self._with_each(experiment_id, batch, self._restore_pinned)
        for batch in batched(self._missing_from_trash(experiment_id)):
            self._with_each(experiment_id, batch, self._note_restored)

    def purge_trash(self, experiment_id: str, retention: timedelta) -> None:
        """Delete for good what has been in the trash for longer than `retention`, and finish purges begun."""
        for batch in self._batches(experiment_id, self._due(retention)):
            begun: list[Decision] = []
            # From here on a resume is told that these are gone.
            self._with_each(experiment_id, batch, partial(self._begin_purge, begun=begun))
            ended = {decision.decided.decision_id: self._purged(decision) for decision in begun}
            self._with_each(experiment_id, list(ended), partial(self._record_purge, ended=ended))

    def _settle(
        self,
        locked: LockedExperiment,
        decision: Decision,
        *,
        moved: Callable[[], None],
        trashed: list[EvictionDecided],
    ) -> None:
        """Settle a claim, and note in `trashed` what that moves."""
        if decision.outcome == "claimed":
            # Asked before each move: a process may be frozen between any two of them.
            self._streams.lease.require(locked.stream.connection)
            self._add(locked, self._keeping(locked, partial(_settled, locked.state, decision, self._stores, trashed)))
        moved()

    def _restore_pinned(self, locked: LockedExperiment, decision: Decision) -> None:
        if not _is_pinned_in_trash(locked.state, decision):
            return
        decided = decision.decided
        try:
            is_back = self._keeping(locked, partial(is_brought_back, decision, self._stores))
        except (StoreError, PathRefused) as error:
            logger.warning("checkpoint %s is pinned, and cannot be brought back: %s", decided.uri, error)
            return
        if is_back:
            self._add(locked, CheckpointRestored(decision_id=decided.decision_id, trial_id=decided.trial_id))

    def _missing_from_trash(self, experiment_id: str) -> list[str]:
        with self._streams.locked(experiment_id) as locked:
            trashed = [one.decided for one in locked.state.decisions.values() if one.outcome == "trashed"]
        found: list[str] = []
        for root in sorted({decided.store_uri for decided in trashed}):
            try:
                claims = self._stores.claims_at(root)
            except (StoreError, PathRefused) as error:
                logger.info("the trash of store %s cannot be looked at: %s", root, error)
                continue
            found += [one.decision_id for one in trashed if one.store_uri == root and one.decision_id not in claims]
        return found

    def _note_restored(self, locked: LockedExperiment, decision: Decision) -> None:
        if decision.outcome == "trashed":
            event = self._keeping(locked, partial(_next_step, decision, self._stores))
            if isinstance(event, CheckpointRestored):
                self._add(locked, event)

    def _begin_purge(self, locked: LockedExperiment, decision: Decision, *, begun: list[Decision]) -> None:
        if not _may_be_purged(locked.state, decision, self._stores):
            return
        if decision.outcome == "trashed":
            event = self._keeping(locked, partial(_next_step, decision, self._stores))
            self._add(locked, event)
            if not isinstance(event, PurgeDecided):
                return
        begun.append(decision)

    def _purged(self, decision: Decision) -> CheckpointPurged | EvictionFailed:
        self._streams.lease.keep()
        decided = decision.decided
        ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
        try:
            store = self._stores.at(decided.store_uri)
            self._streams.lease.keeping(lambda: store.purge(decided.decision_id, decided.manifest))
        except (StoreError, PathRefused) as error:
            return EvictionFailed(**ids, step="purge", error=_about(decided, error))
        return CheckpointPurged(**ids, freed_bytes=decided.manifest.size_bytes)

    def _record_purge(
        self, locked: LockedExperiment, decision: Decision, *, ended: Mapping[str, CheckpointPurged | EvictionFailed]
    ) -> None:
        self._add(locked, ended[decision.decided.decision_id])

    def _with_each(
        self,
        experiment_id: str,
        decision_ids: Sequence[str],
        work: Callable[[LockedExperiment, Decision], None],
    ) -> None:
        """Do something about decisions in one transaction under the stream's lock, as far as they are still open."""
        if not decision_ids:
            return
        with self._streams.locked(experiment_id) as locked:
            self._stores.look_at(self._projector.held_deployment(locked.stream.connection))
            for decision_id in decision_ids:
                # Another sweeper, or a resume, may have ended it meanwhile.
                decision = locked.state.decisions.get(decision_id)
                if decision is not None:
                    work(locked, decision)
            self._projector.store(locked)

    def _keeping(self, locked: LockedExperiment, work: Callable[[], T]) -> T:
        return self._streams.lease.keeping(work, locked.stream.connection)

    def _add(self, locked: LockedExperiment, event: Event) -> None:
        self._appender.add(locked, event)
        self._tally.note(event)

    def _to_settle(self, _: ExperimentState, decision: Decision) -> bool:
        now = self._appender.clock.now()
        return decision.outcome == "claimed" and may_retry(decision.failures, decision.failed_at, now)

    def _due(self, retention: timedelta) -> Callable[[ExperimentState, Decision], bool]:
        now = self._appender.clock.now()

        def is_due(state: ExperimentState, decision: Decision) -> bool:
            if not _may_be_purged(state, decision, self._stores):
                return False
            if not may_retry(decision.failures, decision.failed_at, now):
                return False
            in_trash_since = decision.outcome_at or now
            return decision.outcome == "purging" or in_trash_since + retention <= now

        return is_due

    def _batches(
        self, experiment_id: str, wanted: Callable[[ExperimentState, Decision], bool]
    ) -> Iterator[Sequence[str]]:
        for batch in batched(self._decisions(experiment_id, wanted)):
            if self._should_stop():
                return
            yield batch

    def _decisions(self, experiment_id: str, wanted: Callable[[ExperimentState, Decision], bool]) -> list[str]:
        with self._streams.locked(experiment_id) as locked:
            state = locked.state
            return [decision_id for decision_id, decision in state.decisions.items() if wanted(state, decision)]


def batched(decision_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut work into parts, each of which is done under one lock."""
    for start in range(0, len(decision_ids), _MOVES_A_LOCK):
        yield decision_ids[start : start + _MOVES_A_LOCK]


def _is_pinned_in_trash(state: ExperimentState, decision: Decision) -> bool:
    checkpoint = state.checkpoints[decision.decided.uri]
    is_own = checkpoint.decision_id == decision.decided.decision_id
    return decision.outcome == "trashed" and is_own and checkpoint.pinned


def _may_be_purged(state: ExperimentState, decision: Decision, stores: Stores) -> bool:
    """Tell whether what a decision has put into the trash may be deleted from there."""
    if not stores.allows(decision.decided.store_uri):
        return False
    return decision.outcome in {"trashed", "purging"} and not _is_pinned_in_trash(state, decision)


def _settled(state: ExperimentState, decision: Decision, stores: Stores, trashed: list[EvictionDecided]) -> Event:
    """Do the store's part of a claim, under the stream's lock, and return what to record.

    Where the store does not even say whether a sweep that was killed has moved the checkpoint, the claim stays open,
    or the checkpoint would pass for stored while it lies in the trash.
    """
    decided = decision.decided
    ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
    reason = objection(state, decided.uri, decided.checkpoint_position, decided.reason)
    if state.checkpoints[decided.uri].decision_id != decided.decision_id:
        reason = reason or "saved_again"
    if not stores.allows(decided.store_uri):
        reason = reason or "store_removed"
    try:
        store = stores.at(decided.store_uri)
        if reason is None:
            if not store.trashed(decided.decision_id):
                trashed.append(decided)
            store.trash(decided.uri, decided.decision_id, decided.manifest)
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
    ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
    try:
        moved = stores.at(decided.store_uri).trashed(decided.decision_id)
    except (StoreError, PathRefused) as unknown:
        untold = f"{error}; whether it was moved cannot be told: {unknown}"
        return EvictionFailed(**ids, step="look", error=_about(decided, untold))
    return CheckpointTrashed(**ids) if moved else EvictionFailed(**ids, step="trash", error=_about(decided, error))


def _next_step(decision: Decision, stores: Stores) -> Event:
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
        return EvictionFailed(**ids, step="purge", error=_about(decided, error))
    return PurgeDecided(**ids)


def _put_back(trashed: Sequence[EvictionDecided], stores: Stores) -> None:
    """Undo moves whose record was not committed.

    This process may have been frozen before the moves, until its lease and its transaction were gone and a resume was
    promised what it has moved now.
    """
    for decided in trashed:
        try:
            stores.at(decided.store_uri).restore(decided.uri, decided.decision_id)
        except (StoreError, PathRefused) as error:
            logger.warning("checkpoint %s stays in the trash: %s", decided.uri, error)


def _about(decided: EvictionDecided, error: Exception | str) -> str:
    """Return what a store said, which may have been about its mark or its trash, and which checkpoint it was about."""
    text = str(error)
    return said(text if decided.uri in text else f"checkpoint {decided.uri}: {text}")


def said(error: Exception | str) -> str:
    """Return an error's text as the log can keep it, whatever an adapter put into it."""
    text = str(error).encode(errors="backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}…"

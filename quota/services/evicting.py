"""Carrying decisions out: from the claim to the trash, and from the trash to nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from quota.domain.events import (
    CancelReason,
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
from quota.services.appending import Appender
from quota.services.fencing import FencedStreams
from quota.services.stores import Stores

logger = logging.getLogger(__name__)

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
    """

    def __init__(self, appender: Appender, streams: FencedStreams) -> None:
        self._appender = appender
        self._streams = streams
        self._projector = streams.projector

    def has_work(self, experiment_id: str, stores: Stores, retention: timedelta) -> bool:
        """Tell whether earlier sweeps left anything to do: claims to settle, or trash that is due."""
        is_due = self._due(stores, retention)
        return bool(
            self._decisions(
                experiment_id, lambda state, decision: self._to_settle(state, decision) or is_due(state, decision)
            )
        )

    def settle_claims(self, experiment_id: str, stores: Stores, tally: Tally, moved: Callable[[], None]) -> None:
        """Move all claimed checkpoints to the trash, as far as their claims still hold."""
        pending = self._decisions(experiment_id, self._to_settle)
        for start in range(0, len(pending), _MOVES_A_LOCK):
            batch = pending[start : start + _MOVES_A_LOCK]
            trashed: list[EvictionDecided] = []
            try:
                self._settle(experiment_id, batch, stores, tally, moved, trashed)
            except Exception:
                _put_back(trashed, stores)
                raise

    def _settle(
        self,
        experiment_id: str,
        decision_ids: Sequence[str],
        stores: Stores,
        tally: Tally,
        moved: Callable[[], None],
        trashed: list[EvictionDecided],
    ) -> None:
        """Settle claims in one transaction, and note in `trashed` what it moves."""
        with self._streams.locked(experiment_id) as locked:
            stores.look_at(self._projector.held_deployment(locked.stream.connection))
            for decision_id in decision_ids:
                decision = locked.state.decisions.get(decision_id)
                if decision is not None and decision.outcome == "claimed":
                    # Asked before each move: a process may be frozen between any two of them.
                    self._streams.lease.require(locked.stream.connection)
                    event = self._streams.lease.keeping(
                        partial(_settled, locked.state, decision, stores, trashed), locked.stream.connection
                    )
                    self._appender.add(locked, event)
                    tally.note(event)
                moved()
            self._projector.store(locked)

    def note_restored(self, experiment_id: str, stores: Stores) -> None:
        """Record what was moved back by a process that was killed before it could say so."""
        suspicious = self._missing_from_trash(experiment_id, stores)
        if not suspicious:
            return
        with self._streams.locked(experiment_id) as locked:
            for decision_id in suspicious:
                decision = locked.state.decisions.get(decision_id)
                if decision is not None and decision.outcome == "trashed":
                    event = _next_step(decision, stores)
                    if isinstance(event, CheckpointRestored):
                        self._appender.add(locked, event)
            self._projector.store(locked)

    def _missing_from_trash(self, experiment_id: str, stores: Stores) -> list[str]:
        with self._streams.locked(experiment_id) as locked:
            trashed = [one.decided for one in locked.state.decisions.values() if one.outcome == "trashed"]
        found: list[str] = []
        for root in sorted({decided.store_uri for decided in trashed}):
            try:
                claims = stores.at(root).claims()
            except (StoreError, PathRefused) as error:
                logger.info("the trash of store %s cannot be looked at: %s", root, error)
                continue
            found += [one.decision_id for one in trashed if one.store_uri == root and one.decision_id not in claims]
        return found

    def purge_trash(self, experiment_id: str, stores: Stores, retention: timedelta, tally: Tally) -> None:
        """Delete for good what has been in the trash for longer than `retention`, and finish purges begun."""
        due = self._decisions(experiment_id, self._due(stores, retention))
        if not due:
            return
        begun = self._begin_purges(experiment_id, due, stores, tally)
        ended = [self._purged(decision, stores) for decision in begun]
        with self._streams.locked(experiment_id) as locked:
            for event in ended:
                # Another sweeper may have finished the same purge meanwhile.
                if event.decision_id in locked.state.decisions:
                    self._appender.add(locked, event)
                    tally.note(event)
            self._projector.store(locked)

    def _begin_purges(self, experiment_id: str, due: Sequence[str], stores: Stores, tally: Tally) -> list[Decision]:
        """Commit the point from which on a resume is told that the checkpoints are gone."""
        begun: list[Decision] = []
        with self._streams.locked(experiment_id) as locked:
            stores.look_at(self._projector.held_deployment(locked.stream.connection))
            for decision_id in due:
                decision = locked.state.decisions.get(decision_id)
                if decision is None or not _may_be_purged(locked.state, decision, stores):
                    continue
                if decision.outcome == "trashed":
                    event = _next_step(decision, stores)
                    self._appender.add(locked, event)
                    tally.note(event)
                    if not isinstance(event, PurgeDecided):
                        continue
                begun.append(decision)
            self._projector.store(locked)
        return begun

    def _purged(self, decision: Decision, stores: Stores) -> CheckpointPurged | EvictionFailed:
        self._streams.lease.keep()
        decided = decision.decided
        ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
        try:
            store = stores.at(decided.store_uri)
            self._streams.lease.keeping(lambda: store.purge(decided.decision_id, decided.manifest))
        except (StoreError, PathRefused) as error:
            return EvictionFailed(**ids, step="purge", error=said(error))
        return CheckpointPurged(**ids, freed_bytes=decided.manifest.size_bytes)

    def _to_settle(self, _: ExperimentState, decision: Decision) -> bool:
        now = self._appender.clock.now()
        return decision.outcome == "claimed" and may_retry(decision.failures, decision.failed_at, now)

    def _due(self, stores: Stores, retention: timedelta) -> Callable[[ExperimentState, Decision], bool]:
        now = self._appender.clock.now()

        def is_due(state: ExperimentState, decision: Decision) -> bool:
            if not _may_be_purged(state, decision, stores):
                return False
            if not may_retry(decision.failures, decision.failed_at, now):
                return False
            in_trash_since = decision.outcome_at or now
            return decision.outcome == "purging" or in_trash_since + retention <= now

        return is_due

    def _decisions(self, experiment_id: str, wanted: Callable[[ExperimentState, Decision], bool]) -> list[str]:
        with self._streams.locked(experiment_id) as locked:
            state = locked.state
            return [decision_id for decision_id, decision in state.decisions.items() if wanted(state, decision)]


def objection(state: ExperimentState, uri: str, saved_position: int) -> CancelReason | None:
    """Say why a checkpoint may not be evicted (any more), or None where it may."""
    checkpoint = state.checkpoints[uri]
    if checkpoint.saved_position != saved_position:
        return "saved_again"
    if checkpoint.pinned:
        return "pinned"
    trial = state.trials[checkpoint.trial_id]
    newest = state.newest_stored(trial.trial_id)
    is_superseded = newest is not None and newest.saved_position > saved_position and uri != trial.promised_uri
    return "resumed" if trial.status == "running" and not is_superseded else None


def _may_be_purged(state: ExperimentState, decision: Decision, stores: Stores) -> bool:
    """Tell whether what a decision has put into the trash may be deleted from there."""
    if not stores.allows(decision.decided.store_uri):
        return False
    if decision.outcome == "trashed":
        # It can be pinned while it is claimed, and a sweep that was killed may have moved it then.
        checkpoint = state.checkpoints[decision.decided.uri]
        return not (checkpoint.pinned and checkpoint.decision_id == decision.decided.decision_id)
    return decision.outcome == "purging"


def _settled(state: ExperimentState, decision: Decision, stores: Stores, trashed: list[EvictionDecided]) -> Event:
    """Do the store's part of a claim, under the stream's lock, and return what to record.

    Where the store does not even say whether a sweep that was killed has moved the checkpoint, the claim stays open,
    or the checkpoint would pass for stored while it lies in the trash.
    """
    decided = decision.decided
    ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
    reason = objection(state, decided.uri, decided.checkpoint_position)
    checkpoint = state.checkpoints[decided.uri]
    if checkpoint.decision_id != decided.decision_id:
        reason = reason or ("missing" if checkpoint.state == "missing" else "saved_again")
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
            if reason == "pinned" and store.restore(decided.uri, decided.decision_id):
                return EvictionCancelled(**ids, reason="pinned")
            return CheckpointTrashed(**ids)
    except CheckpointGone:
        return EvictionCancelled(**ids, reason="missing")
    except (StoreError, PathRefused) as error:
        try:
            moved = stores.at(decided.store_uri).trashed(decided.decision_id)
        except (StoreError, PathRefused) as unknown:
            return EvictionFailed(**ids, step="look", error=said(unknown))
        return CheckpointTrashed(**ids) if moved else EvictionFailed(**ids, step="trash", error=said(error))
    return EvictionCancelled(**ids, reason=reason)


def _next_step(decision: Decision, stores: Stores) -> Event:
    """Say what comes next for a trashed checkpoint: usually that it is purged.

    A restore may have been cut off after the move back and before its record: then it is restored.
    """
    decided = decision.decided
    ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
    try:
        store = stores.at(decided.store_uri)
        if not store.trashed(decided.decision_id) and store.manifest(decided.uri).entries == decided.manifest.entries:
            return CheckpointRestored(**ids)
    except CheckpointGone:
        pass
    except (StoreError, PathRefused) as error:
        return EvictionFailed(**ids, step="purge", error=said(error))
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


def said(error: Exception | str) -> str:
    """Return an error's text as the log can keep it, whatever an adapter put into it."""
    text = str(error).encode(errors="backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}…"

"""How the eviction protocol's events change the state.

A decision and a checkpoint go separate ways once a trial writes a later checkpoint to the same place: from then on
the decision is about what lies in the trash, and the checkpoint is about what lies at the place.
"""

from __future__ import annotations

from quota.domain.events import (
    CheckpointPurged,
    CheckpointRestored,
    CheckpointTrashed,
    Event,
    EvictionCancelled,
    EvictionDecided,
    EvictionFailed,
    PurgeDecided,
    RecordedEvent,
)
from quota.domain.experiment import Checkpoint, CheckpointState, Decision, ExperimentState, Outcome
from quota.domain.fold.accounting import resize, set_checkpoint_state
from quota.domain.fold.trials import Handler


def _decided(state: ExperimentState, event: RecordedEvent, payload: EvictionDecided) -> None:
    decision = Decision(
        decided=payload,
        decided_position=event.position,
        decided_at=event.occurred_at,
        actor=event.actor,
    )
    state.decisions[payload.decision_id] = decision
    state.touched.decisions[payload.decision_id] = decision
    checkpoint = state.checkpoints[payload.uri]
    # What the manifest found is what purging will free, whatever the trial had said.
    resize(state, checkpoint, payload.size_bytes)
    set_checkpoint_state(state, checkpoint, "claimed")
    checkpoint.decision_id = payload.decision_id


def _own_checkpoint(state: ExperimentState, decision: Decision) -> Checkpoint | None:
    """Return the checkpoint that the decision is about, unless a later one lies at its place by now."""
    checkpoint = state.checkpoints[decision.decided.uri]
    return checkpoint if checkpoint.decision_id == decision.decided.decision_id else None


def _advance(
    state: ExperimentState, event: RecordedEvent, decision_id: str, outcome: Outcome, becomes: CheckpointState
) -> Decision:
    """Move a decision on, and its checkpoint along with it."""
    decision = state.decisions[decision_id]
    checkpoint = _own_checkpoint(state, decision)
    if checkpoint is not None:
        set_checkpoint_state(state, checkpoint, becomes)
        if becomes == "stored":
            checkpoint.decision_id = None
    decision.outcome = outcome
    decision.outcome_at = event.occurred_at
    state.touched.decisions[decision_id] = decision
    state.touched.experiment = True
    if not decision.is_open:
        del state.decisions[decision_id]
    return decision


def _count_in_trash(state: ExperimentState, decision: Decision, sign: int) -> None:
    """Count what lies in the trash while a later checkpoint lies at its place."""
    state.usage.trashed_checkpoints += sign
    state.usage.trashed_bytes += sign * decision.decided.size_bytes


def _trashed(state: ExperimentState, event: RecordedEvent, payload: CheckpointTrashed) -> None:
    decision = _advance(state, event, payload.decision_id, "trashed", "trashed")
    state.registered.checkpoints_evicted += 1
    if _own_checkpoint(state, decision) is None:
        _count_in_trash(state, decision, +1)


def _purge_decided(state: ExperimentState, event: RecordedEvent, payload: PurgeDecided) -> None:
    _advance(state, event, payload.decision_id, "purging", "purging")


def _purged(state: ExperimentState, event: RecordedEvent, payload: CheckpointPurged) -> None:
    decision = _advance(state, event, payload.decision_id, "purged", "purged")
    decision.freed_bytes = payload.freed_bytes
    state.usage.freed_bytes += payload.freed_bytes
    if _own_checkpoint(state, decision) is None:
        _count_in_trash(state, decision, -1)


def _restored(state: ExperimentState, event: RecordedEvent, payload: CheckpointRestored) -> None:
    is_replaced = _own_checkpoint(state, state.decisions[payload.decision_id]) is None
    decision = _advance(state, event, payload.decision_id, "restored", "stored")
    if is_replaced:
        _count_in_trash(state, decision, -1)


def _cancelled(state: ExperimentState, event: RecordedEvent, payload: EvictionCancelled) -> None:
    becomes: CheckpointState = "missing" if payload.reason == "missing" else "stored"
    decision = _advance(state, event, payload.decision_id, "cancelled", becomes)
    decision.error = payload.reason


def _failed(state: ExperimentState, event: RecordedEvent, payload: EvictionFailed) -> None:
    decision = state.decisions[payload.decision_id]
    decision.failures += 1
    decision.failed_at = event.occurred_at
    decision.error = payload.error
    state.touched.decisions[payload.decision_id] = decision
    if payload.step == "forbidden":
        _advance(state, event, payload.decision_id, "forbidden", "trashed")
    if payload.step in {"list", "trash"}:
        decision.outcome = "failed"
        decision.outcome_at = event.occurred_at
        checkpoint = _own_checkpoint(state, decision)
        if checkpoint is not None:
            set_checkpoint_state(state, checkpoint, "stored")
            checkpoint.decision_id = None
            checkpoint.failures += 1
            checkpoint.failed_at = event.occurred_at
        del state.decisions[payload.decision_id]


HANDLERS: dict[type[Event], Handler] = {
    EvictionDecided: _decided,
    CheckpointTrashed: _trashed,
    PurgeDecided: _purge_decided,
    CheckpointPurged: _purged,
    EvictionFailed: _failed,
    EvictionCancelled: _cancelled,
    CheckpointRestored: _restored,
}

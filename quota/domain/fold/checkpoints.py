"""How events about checkpoints, other than their eviction, change the state."""

from __future__ import annotations

from quota.domain.events import (
    CheckpointAdopted,
    CheckpointFound,
    CheckpointMissing,
    CheckpointPinned,
    CheckpointSaved,
    CheckpointUnpinned,
    Event,
    RecordedEvent,
)
from quota.domain.experiment import Checkpoint, ExperimentState
from quota.domain.fold.accounting import count_new, resize, set_checkpoint_state
from quota.domain.fold.timing import happened_at
from quota.domain.fold.trials import Handler
from quota.domain.order import in_order, is_late, place_among


def _saved(state: ExperimentState, event: RecordedEvent, payload: CheckpointSaved | CheckpointAdopted) -> None:
    uris = state.trial_uris.setdefault(payload.trial_id, [])
    checkpoint = state.checkpoints.get(payload.uri)
    saved_at = happened_at(state, event)
    if checkpoint is None:
        checkpoint = Checkpoint(
            uri=payload.uri,
            trial_id=payload.trial_id,
            state="stored",
            size_bytes=payload.size_bytes,
            resource=payload.resource,
            saved_position=event.position,
            saved_at=saved_at,
        )
        uris.insert(place_among(checkpoint, uris, state.checkpoints), payload.uri)
        state.checkpoints[payload.uri] = checkpoint
        count_new(state, checkpoint)
        return
    if checkpoint.state == "stored" and is_late(payload.resource, saved_at, checkpoint):
        # The trial has written there again since, and the log knows that already.
        state.touched.flags.append((event.position, "late_save"))
        return
    if checkpoint.state in {"trashed", "purging"}:
        # The earlier one stays in the trash; its decision goes on by itself.
        state.usage.trashed_checkpoints += 1
        state.usage.trashed_bytes += checkpoint.size_bytes
    if checkpoint.state != "stored":
        set_checkpoint_state(state, checkpoint, "stored")
    resize(state, checkpoint, payload.size_bytes)
    checkpoint.resource = payload.resource
    checkpoint.saved_position = event.position
    checkpoint.saved_at = saved_at
    checkpoint.decision_id = None
    checkpoint.failures, checkpoint.failed_at = 0, None
    uris[:] = [one.uri for one in in_order(state.checkpoints[uri] for uri in uris)]


def _pin(*, pinned: bool) -> Handler:
    def change(state: ExperimentState, _: RecordedEvent, payload: CheckpointPinned | CheckpointUnpinned) -> None:
        state.checkpoints[payload.uri].pinned = pinned
        state.touched.checkpoints.add(payload.uri)

    return change


def _missing(state: ExperimentState, event: RecordedEvent, payload: CheckpointMissing) -> None:
    checkpoint = state.checkpoints[payload.uri]
    match checkpoint.state:
        case "stored":
            set_checkpoint_state(state, checkpoint, "missing")
        case "claimed":
            # A sweep may have moved it and not said so yet; whoever finishes that sweep's work finds out.
            state.touched.flags.append((event.position, "gone_while_claimed"))
        case _:
            state.touched.flags.append((event.position, "gone_before"))


def _found(state: ExperimentState, event: RecordedEvent, payload: CheckpointFound) -> None:
    checkpoint = state.checkpoints[payload.uri]
    if checkpoint.state not in {"stored", "missing"}:
        state.touched.flags.append((event.position, "found_while_evicted"))
        return
    if checkpoint.state == "missing":
        set_checkpoint_state(state, checkpoint, "stored")
    resize(state, checkpoint, payload.size_bytes)


HANDLERS: dict[type[Event], Handler] = {
    CheckpointSaved: _saved,
    CheckpointAdopted: _saved,
    CheckpointPinned: _pin(pinned=True),
    CheckpointUnpinned: _pin(pinned=False),
    CheckpointMissing: _missing,
    CheckpointFound: _found,
}

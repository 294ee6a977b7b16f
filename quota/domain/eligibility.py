"""Whether a checkpoint may be evicted: the one rule, asked when it is claimed and again before it is moved."""

from __future__ import annotations

from collections.abc import Callable

from quota.domain.events import CancelReason, EvictionReason
from quota.domain.experiment import Checkpoint, ExperimentState


def objection(
    state: ExperimentState,
    uri: str,
    saved_position: int,
    planned_as: EvictionReason,
    is_pinned: Callable[[str], bool],
) -> CancelReason | None:
    """Say why a checkpoint may not be evicted (any more), or None where it may.

    Args:
        state: Its experiment, up to its last event.
        uri: Its place.
        saved_position: Position of the event that saved it; what was saved there later is another checkpoint.
        planned_as: The reason that it was chosen, and scored, for: what has made it dearer since is an objection.
        is_pinned: Tells whether a place is pinned by what it belongs to.
    """
    checkpoint = state.checkpoints[uri]
    if checkpoint.saved_position != saved_position:
        return "saved_again"
    if checkpoint.pinned or is_pinned(uri):
        return "pinned"
    if planned_as == "orphan":
        return None
    trial = state.trials[checkpoint.trial_id]
    if trial.has_ended:
        # A trial that has ended goes on no more. What went for another reason was counted and scored as another thing.
        return None if planned_as == trial.status else "ended"
    if planned_as != "superseded":
        return None if planned_as == trial.status else "resumed"
    if uri == trial.promised_uri:
        return "resumed"
    return "needed" if state.successor_of(checkpoint) is None else None


def is_needed_again(state: ExperimentState, checkpoint: Checkpoint) -> bool:
    """Tell whether what was evicted as superseded is the last of a trial that may run: what came after it is missing.

    What is evicted after it was missed least, and stays evicted; what of it can still come back does so first.
    """
    if state.trials[checkpoint.trial_id].has_ended:
        return False
    uris = state.trial_uris[checkpoint.trial_id]
    later = [state.checkpoints[uri].state for uri in uris[uris.index(checkpoint.uri) + 1 :]]
    return bool(later) and later[-1] == "missing" and not {"stored", "claimed", "trashed"} & set(later)

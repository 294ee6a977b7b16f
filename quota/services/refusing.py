"""From a refusal, which is a value, to the error that is raised."""

from __future__ import annotations

from collections.abc import Callable

from quota.domain.deployment import DeploymentState
from quota.domain.events import CheckpointAdopted, CheckpointSaved, Event, NewEvent
from quota.domain.refusal import Refusal, RefusalKind
from quota.errors import (
    BadInput,
    IdentityRefused,
    NumberRefused,
    PathRefused,
    StateRefused,
    TimeRefused,
)
from quota.eventlog.locations import take_location
from quota.projections.projector import LockedExperiment

_CLASSES: dict[RefusalKind, type[BadInput]] = {
    RefusalKind.NUMBER: NumberRefused,
    RefusalKind.IDENTITY: IdentityRefused,
    RefusalKind.STATE: StateRefused,
    RefusalKind.TIME: TimeRefused,
    RefusalKind.PATH: PathRefused,
}


def error_for(thing: str, refusal: Refusal) -> BadInput:
    """Return the error that says why `thing` is refused."""
    return _CLASSES[refusal.kind](thing, refusal.field, refusal.value, refusal.reason)


def location_refusal(
    locked: LockedExperiment, payload: Event, held_deployment: Callable[[], DeploymentState]
) -> Refusal | None:
    """Take a new checkpoint's location, which no other checkpoint may overlap, and no store's root may lie in.

    Args:
        locked: The experiment of the trial that has saved it.
        payload: The event.
        held_deployment: Gives the deployment's state, and lets nobody change it before the transaction ends.
    """
    if not isinstance(payload, CheckpointSaved | CheckpointAdopted) or payload.uri in locked.state.checkpoints:
        return None
    # Held before the locations are, as everybody does; and so no store is added around what is taken now.
    root = held_deployment().root_within(payload.uri)
    if root is not None:
        reason = f"it is or holds the store {root}, and so the place of every other checkpoint there; name its own"
        return Refusal(RefusalKind.PATH, "uri", payload.uri, reason)
    overlap = take_location(locked.stream.connection, locked.state.experiment_id, payload.trial_id, payload.uri)
    if overlap is None:
        return None
    reason = (
        f"it overlaps {overlap.location}, which belongs to trial {overlap.trial_id} of experiment "
        f"{overlap.experiment_id}; evicting one would take the other, so give each trial its own place"
    )
    return Refusal(RefusalKind.STATE, "uri", payload.uri, reason)


def named(new: NewEvent) -> str:
    """Name an event in a message."""
    return f"event {new.event_id} ({new.payload.TYPE} of {new.experiment_id})"

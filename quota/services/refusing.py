"""From a refusal, which is a value, to the error that is raised."""

from __future__ import annotations

from sqlalchemy import Connection, select

from quota.domain.events import CheckpointAdopted, CheckpointSaved, Event, NewEvent
from quota.domain.locations import Location, parse_location
from quota.domain.refusal import Refusal, RefusalKind
from quota.errors import (
    BadInput,
    IdentityRefused,
    NumberRefused,
    PathRefused,
    StateRefused,
    TimeRefused,
)
from quota.eventlog.locations import lies_below, take_location
from quota.projections.projector import LockedExperiment
from quota.projections.tables import stores

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


def location_refusal(locked: LockedExperiment, payload: Event) -> Refusal | None:
    """Take a new checkpoint's location, which no other checkpoint may overlap, and no store's root may lie in."""
    if not isinstance(payload, CheckpointSaved | CheckpointAdopted) or payload.uri in locked.state.checkpoints:
        return None
    root = _root_within(locked.stream.connection, parse_location(payload.uri))
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


def _root_within(connection: Connection, location: Location) -> str | None:
    """Return the root of a store that is, or lies in, a location."""
    uri = stores.c.uri
    is_within = (uri == location.key.removesuffix("/")) | lies_below(uri, location)
    query = select(uri).where(stores.c.removed_at.is_(None), is_within).order_by(uri).limit(1)
    return connection.execute(query).scalar()


def named(new: NewEvent) -> str:
    """Name an event in a message."""
    return f"event {new.event_id} ({new.payload.TYPE} of {new.experiment_id})"

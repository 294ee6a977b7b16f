"""From a refusal, which is a value, to the error that is raised."""

from __future__ import annotations

from quota.domain.events import NewEvent
from quota.domain.refusal import Refusal, RefusalKind
from quota.errors import (
    BadInput,
    IdentityRefused,
    NumberRefused,
    PathRefused,
    StateRefused,
    TimeRefused,
)

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


def named(new: NewEvent) -> str:
    """Name an event in a message."""
    return f"event {new.event_id} ({new.payload.TYPE} of {new.experiment_id})"

"""Whether two events with one id are one: what is sent twice is stored once."""

from __future__ import annotations

from collections.abc import Mapping

from quota.domain.events import NewEvent
from quota.errors import IdentityRefused


def same(one: NewEvent, one_data: str, other: NewEvent, other_data: str) -> bool:
    """Tell whether two events with one id say the same. Who sends it may differ: another host may retry."""
    return (
        one.experiment_id == other.experiment_id
        and one.payload.TYPE == other.payload.TYPE
        and one.occurred_at == other.occurred_at
        and one_data == other_data
    )


def named(new: NewEvent, names: Mapping[str, str]) -> str:
    """Return how an event is named in a message."""
    return names.get(new.event_id, f"event {new.event_id} ({new.payload.TYPE})")


def two_contents(event_id: str, name: str) -> IdentityRefused:
    """Return the error that says that an id stands for another event already."""
    reason = "this id stands for another event already; give each event an id of its own"
    return IdentityRefused(name, "event_id", event_id, reason)

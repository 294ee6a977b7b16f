"""In which order a trial has saved its checkpoints: as their events arrived, but for what arrived late.

What could not be sent at once is sent again later, and by then the log may have what the trial saved next. So a save
that is earlier by its time, and has less resource too, comes before what was known. Neither alone says as much: a trial
that starts anew saves less resource later in time, and the clocks of two hosts differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar


class Saved(Protocol):
    """What is known of a save."""

    @property
    def uri(self) -> str:
        """Where."""
        ...

    @property
    def resource(self) -> int:
        """Units of resource that the trial had consumed."""
        ...

    @property
    def saved_position(self) -> int:
        """Position of the event that says so."""
        ...

    @property
    def saved_at(self) -> datetime:
        """When that was, as far as the sender's time may be used."""
        ...


S = TypeVar("S", bound=Saved)


def is_late(resource: int, saved_at: datetime, known: Saved) -> bool:
    """Tell whether what has just arrived was saved before what is known."""
    return resource < known.resource and saved_at < known.saved_at


def place_among(saved: Saved, uris: Sequence[str], known: Mapping[str, Saved]) -> int:
    """Return where the save that has arrived last belongs among the earlier ones of its trial.

    Args:
        saved: It.
        uris: The others, in order.
        known: What is known of them, by URI.
    """
    place = len(uris)
    while place and is_late(saved.resource, saved.saved_at, known[uris[place - 1]]):
        place -= 1
    return place


def in_order(checkpoints: Iterable[S]) -> list[S]:
    """Return a trial's checkpoints, the one that a resume loads last; the same whenever it is asked."""
    known: dict[str, S] = {}
    uris: list[str] = []
    for one in sorted(checkpoints, key=lambda one: one.saved_position):
        uris.insert(place_among(one, uris, known), one.uri)
        known[one.uri] = one
    return [known[uri] for uri in uris]


def successor(checkpoint: Saved, later: Sequence[S]) -> S | None:
    """Return what has superseded a checkpoint, the latest of it, or None where nothing has.

    What is later in order, but earlier by its time, may have been saved before: then both are kept.

    Args:
        checkpoint: Which.
        later: What comes after it, in order.
    """
    return next((one for one in reversed(later) if one.saved_at >= checkpoint.saved_at), None)

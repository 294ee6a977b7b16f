"""How full a file system is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The file system that a store lies on, at one moment.

    Attributes:
        file_system: Tells it from all others of this host: what is deleted in one store is free for all on the same.
        total_bytes: What its users can fill, what is reserved for root left out, as `df` counts it.
        free_bytes: What they can fill yet.
    """

    file_system: str
    total_bytes: int
    free_bytes: int

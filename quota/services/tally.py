"""What became of a sweep's decisions, and what stores said about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from quota.domain.events import (
    CheckpointMissing,
    CheckpointPurged,
    CheckpointTrashed,
    Event,
    EvictionCancelled,
    EvictionDecided,
    EvictionFailed,
)

_LONGEST_ERROR = 2_000


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


def about(decided: EvictionDecided, error: Exception | str) -> str:
    """Return what a store said, which may have been about its mark or its trash, and which checkpoint it was about."""
    text = str(error)
    return said(text if decided.uri in text else f"checkpoint {decided.uri}: {text}")


def said(error: Exception | str) -> str:
    """Return an error's text as the log can keep it, whatever an adapter put into it."""
    text = str(error).encode(errors="backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}…"

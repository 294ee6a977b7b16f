"""Events about a checkpoint, other than its eviction."""

from __future__ import annotations

from typing import ClassVar

from quota.domain.events.base import Count, Event, SizeBytes, id_refusal
from quota.domain.locations import location_problem, parse_location
from quota.domain.refusal import Refusal, RefusalKind


class CheckpointEvent(Event, frozen=True, kw_only=True):
    """Base of the events about one checkpoint.

    Attributes:
        trial_id: The trial whose checkpoint it is.
        uri: Where it lies, e.g. `file:///scratch/hpo/trial-7`.
    """

    trial_id: str
    uri: str

    @property
    def about_trial(self) -> str | None:
        """The trial whose checkpoint it is."""
        return self.trial_id

    def refusal(self) -> Refusal | None:
        """Check the trial's id and the location."""
        refusal = id_refusal("trial_id", self.trial_id)
        if refusal is not None:
            return refusal
        problem = location_problem(self.uri)
        return None if problem is None else Refusal(RefusalKind.PATH, "uri", self.uri, problem)


class CheckpointSaved(CheckpointEvent, frozen=True, kw_only=True):
    """A trial has written a checkpoint. What it wrote to the same place before is no more.

    It is its trial's newest, and supersedes the others. An event that comes late, earlier by its time than one that is
    known and with less resource, tells of an older one; where its time and its place in the log contradict each other
    otherwise, neither supersedes the other.

    Attributes:
        size_bytes: Size of all its files.
        resource: Units that the trial had consumed when it was written.
    """

    TYPE: ClassVar[str] = "checkpoint_saved"

    size_bytes: SizeBytes
    resource: Count

    def refusal(self) -> Refusal | None:
        """Check the same, and that all else may lie beside it."""
        refusal = super().refusal()
        if refusal is None and not parse_location(self.uri).components:
            problem = "a whole bucket or file system is no checkpoint; name a place of its own in it"
            return Refusal(RefusalKind.PATH, "uri", self.uri, problem)
        return refusal


class CheckpointPinned(CheckpointEvent, frozen=True, kw_only=True):
    """A checkpoint is not to be evicted until it is unpinned."""

    TYPE: ClassVar[str] = "checkpoint_pinned"


class CheckpointUnpinned(CheckpointEvent, frozen=True, kw_only=True):
    """A checkpoint may be evicted again."""

    TYPE: ClassVar[str] = "checkpoint_unpinned"


class CheckpointMissing(CheckpointEvent, frozen=True, kw_only=True):
    """A checkpoint is no longer at its place though no eviction of ours took it, e.g. its tuner deleted it."""

    TYPE: ClassVar[str] = "checkpoint_missing"


class CheckpointFound(CheckpointEvent, frozen=True, kw_only=True):
    """A look at its store has found a checkpoint at its place: with another size than was known, or after all.

    Attributes:
        size_bytes: Size of all its files.
    """

    TYPE: ClassVar[str] = "checkpoint_found"

    size_bytes: SizeBytes


class CheckpointAdopted(CheckpointEvent, frozen=True, kw_only=True):
    """A checkpoint that lay in a store without an event of its own was put under management.

    Attributes:
        size_bytes: Size of all its files.
        resource: Units that the trial had consumed when it was written, as far as known.
    """

    TYPE: ClassVar[str] = "checkpoint_adopted"

    size_bytes: SizeBytes
    resource: Count

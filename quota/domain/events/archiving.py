"""Events of the stream `_deployment` about archives: by them the deployment's own chain vouches for what they hold."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

import msgspec

from quota.domain.events.base import MAX_INTEGER, Event, id_refusal
from quota.domain.locations import location_problem
from quota.domain.refusal import Refusal, RefusalKind

Position = Annotated[int, msgspec.Meta(ge=1, le=MAX_INTEGER)]

_DIGEST = re.compile("[0-9a-f]{64}")


class _AboutArchive(Event, frozen=True, kw_only=True):
    """What the events about an archive say.

    Attributes:
        experiment_id: The experiment whose events it holds.
        uri: Where it lies.
        position: Position of the last event in it; the first is the stream's first.
        head_hash: That event's hash, in hexadecimal.
        manifest_sha256: Digest of its manifest, which has those of all its files, in hexadecimal.
    """

    experiment_id: str
    uri: str
    position: Position
    head_hash: str
    manifest_sha256: str

    def refusal(self) -> Refusal | None:
        """Check the id, the place and the digests."""
        refusal = id_refusal("experiment_id", self.experiment_id)
        if refusal is not None:
            return refusal
        problem = location_problem(self.uri)
        if problem is not None:
            return Refusal(RefusalKind.PATH, "uri", self.uri, problem)
        for name in ("head_hash", "manifest_sha256"):
            if _DIGEST.fullmatch(getattr(self, name)) is None:
                reason = "a digest has 64 hexadecimal digits"
                return Refusal(RefusalKind.IDENTITY, name, getattr(self, name), reason)
        return None


class ExperimentArchived(_AboutArchive, frozen=True, kw_only=True):
    """An experiment's events were written to an archive, and read back from there."""

    TYPE: ClassVar[str] = "experiment_archived"


class EventsRemoved(_AboutArchive, frozen=True, kw_only=True):
    """An experiment's events were taken out of the log: they lie in the archive alone."""

    TYPE: ClassVar[str] = "events_removed"


class ArchiveRestored(_AboutArchive, frozen=True, kw_only=True):
    """An experiment's events were put into the log from an archive."""

    TYPE: ClassVar[str] = "archive_restored"


ABOUT_ARCHIVES: tuple[type[_AboutArchive], ...] = (ExperimentArchived, EventsRemoved, ArchiveRestored)
"""All of them."""

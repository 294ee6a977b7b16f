"""A claimed checkpoint in a bucket that keeps versions: each of its objects, and what the bucket has of its key now."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from quota_s3.claims import Claim, ClaimEntry, Place, advanced, keyed
from quota_s3.deleting import Markers
from quota_s3.names import key_of
from quota_s3.objects import NULL, History, visible_of

NEVER = History()
"""That of a key that nothing was ever written to."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A claimed object, and what the bucket has of its key now.

    Attributes:
        key: Its key.
        entry: The claim's.
        history: The bucket's.
    """

    key: str
    entry: ClaimEntry
    history: History

    @property
    def added_markers(self) -> tuple[str, ...]:
        """Delete markers that lie above its version: there were none when the move began."""
        return tuple(marker for marker in self.history.markers if marker not in self.entry.older_markers)

    @property
    def own_markers(self) -> tuple[str, ...]:
        """Those that the claim's own deletes have put there; all that were added where that was not noted.

        Never one with the version id `null`: none is put while versions are kept, and others may write at that id.
        """
        noted = self.entry.markers
        return tuple(marker for marker in self.added_markers if marker != NULL and (noted is None or marker in noted))

    @property
    def is_there(self) -> bool:
        """Whether its version still exists, hidden or not."""
        return self.history.having(self.entry.version) is not None

    @property
    def is_visible(self) -> bool:
        """Whether a reader of the key gets it."""
        visible = self.history.visible
        return visible is not None and visible.version == self.entry.version

    @property
    def is_hidden(self) -> bool:
        """Whether it lies below delete markers, with no other content in between or above."""
        if self.entry.is_placeholder and not self.history.versions:
            # Some servers delete placeholders for good; what is empty can be written anew.
            return True
        newest = self.history.versions[0] if self.history.versions else None
        return self.history.is_deleted and newest is not None and newest.version == self.entry.version

    @property
    def is_moved(self) -> bool:
        """Whether it lies below a delete marker, and below what was written since where the marker is ours."""
        if self.is_hidden:
            return True
        visible = self.history.visible
        is_next = visible is not None and self.history.versions[1:2] == [self.history.having(self.entry.version)]
        return is_next and bool(self.own_markers)

    @property
    def has_older_versions(self) -> bool:
        """Whether there may be content below its version that comes to light without a marker above it."""
        versions = self.history.versions
        return bool(versions) and versions[-1].version != self.entry.version


@dataclass(frozen=True, slots=True)
class View:
    """All that a claim is on, and what lies beside it.

    Attributes:
        sights: Each of the claim's objects.
        strangers: Keys that readers see and that are not what the claim is on.
    """

    sights: tuple[Sight, ...]
    strangers: tuple[str, ...]

    @property
    def hidden(self) -> tuple[Sight, ...]:
        """What lies below delete markers."""
        return tuple(sight for sight in self.sights if sight.is_hidden)


def look(place: Place, prefix: str, claim: Claim, put: Markers | None = None) -> View:
    """Look at what the claim is on.

    Args:
        place: The claim's place.
        prefix: The checkpoint's.
        claim: As it was before any marker in `put`.
        put: Markers that were put since. One that is not listed was told wrong, so it is not known.

    Raises:
        StoreError: the versions cannot be listed.
    """
    histories = place.bucket.histories(prefix)
    known: Markers = {
        key: marker if marker in histories.get(key, NEVER).markers else None for key, marker in (put or {}).items()
    }
    entries = keyed(noting(claim, prefix, known), prefix)
    sights = tuple(Sight(key, entry, histories.get(key, NEVER)) for key, entry in entries.items())
    ours = {sight.key for sight in sights if sight.is_visible}
    strangers = tuple(item.key for item in visible_of(histories.values()) if item.key not in ours)
    return View(sights, strangers)


def noting(claim: Claim, prefix: str, put: Markers) -> Claim:
    """Return the claim with the markers that were put last, in place of those that were noted of the same keys."""

    def with_marker(entry: ClaimEntry) -> ClaimEntry:
        key = key_of(prefix, entry.path)
        if key not in put:
            return entry
        marker = put[key]
        return msgspec.structs.replace(entry, markers=None if marker is None else (marker,))

    return advanced(claim, claim.state, tuple(map(with_marker, claim.entries)))

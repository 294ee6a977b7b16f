"""What a bucket's listings tell of its keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from quota_s3.names import is_placeholder

NULL = "null"
"""The version id of what was written while versioning was off: it says nothing, as later content has it too."""
PLACEHOLDER_VERSION = "placeholder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An object, or a version of one.

    Attributes:
        key: Its key.
        size_bytes: Size of its content.
        etag: What tells its content from others, as the server says it, without quotes.
        modified_at: When it was written, in UTC; to the second on some servers.
        version_id: Its version id; None where versions were not asked for.
        is_latest: Whether it is what a reader of the key gets.
    """

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime
    version_id: str | None = None
    is_latest: bool = True

    @property
    def is_placeholder(self) -> bool:
        """Whether it only stands for a directory, and no version id tells it from another one."""
        return is_placeholder(self.key, self.size_bytes) and self.version_id in {None, NULL}

    @property
    def version(self) -> str:
        """What a manifest says of it: its version id if that tells it from all others, else content and time."""
        if self.is_placeholder:
            return PLACEHOLDER_VERSION
        content = f"{self.etag}-{self.modified_at.isoformat()}"
        if self.version_id is None:
            return content
        return f"{NULL}-{content}" if self.version_id == NULL else self.version_id

    def is_of(self, etag: str, modified_at: datetime) -> bool:
        """Tell whether it is what was seen before. One request tells the time to the second, another more exactly."""
        return self.etag == etag and self.modified_at.replace(microsecond=0) == modified_at.replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Marker:
    """A delete marker.

    Attributes:
        key: Its key.
        version_id: Its version id.
        is_latest: Whether it is what a reader of the key meets.
    """

    key: str
    version_id: str
    is_latest: bool


@dataclass(slots=True)
class History:
    """All that a versioned bucket has of one key.

    Attributes:
        versions: The versions with content, newest first.
        markers: Version ids of the delete markers, newest first. A listing does not say between which versions.
        is_deleted: Whether a delete marker is what a reader of the key meets.
    """

    versions: list[Item] = field(default_factory=list)
    markers: list[str] = field(default_factory=list)
    is_deleted: bool = False

    @property
    def visible(self) -> Item | None:
        """What a reader of the key gets."""
        return self.versions[0] if self.versions and self.versions[0].is_latest else None

    def having(self, version: str) -> Item | None:
        """Return the version that a manifest calls `version`."""
        return next((item for item in self.versions if item.version == version), None)


def latest_count(history: History) -> int:
    """Return how many entries of a key claim to be the newest: one, or the listing cannot be trusted."""
    return sum(item.is_latest for item in history.versions) + history.is_deleted


def visible_of(histories: Iterable[History]) -> list[Item]:
    """Return what a reader of the keys gets."""
    return [history.visible for history in histories if history.visible is not None]

"""Comparing what lies in a store with what the log says of it, item by item, in memory that the log alone decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from quota.domain.locations import Location, parse_location


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredItem:
    """Something that lies below a store's root.

    Attributes:
        path: Relative to the root, with `/` between components. That of a directory ends in `/`.
        size_bytes: Size of its content; 0 for a directory.
        modified_at: When it was last written or put there, by the store's clock.
        problem: Why it was not looked into, so that more may lie there; None where it was.
        leads_to: Where in the store a symbolic link leads, and through which further links, relative to the root, ""
            for the root itself. Empty of what is no link, or one that leads out of the store.
    """

    path: bytes
    size_bytes: int
    modified_at: datetime
    problem: str | None = None
    leads_to: tuple[bytes, ...] = ()

    @property
    def is_directory(self) -> bool:
        """Whether it only holds other items."""
        return self.path.endswith(b"/")


@dataclass(slots=True, kw_only=True)
class Expected:
    """A checkpoint that the log knows below a store's root, and what has been found of it.

    Attributes:
        experiment_id: Whose it is.
        trial_id: Whose it is.
        uri: Its place.
        state: `stored`: it should lie there. `claimed`: it may. `missing`: it should not.
        size_bytes: Its size, as the log has it.
        saved_position: Position of the event that saved it.
        saved_at: When that was.
        is_found: Whether something lies at its place.
        is_whole: Whether all that lies there has been looked into.
        found_bytes: The sum of its files' sizes.
    """

    experiment_id: str
    trial_id: str
    uri: str
    state: Literal["stored", "claimed", "missing"]
    size_bytes: int
    saved_position: int
    saved_at: datetime
    is_found: bool = False
    is_whole: bool = True
    found_bytes: int = 0

    @property
    def is_absent(self) -> bool:
        """Whether it is not where it should be. What is claimed, a sweep is about to move."""
        return self.state == "stored" and not self.is_found

    @property
    def has_turned_up(self) -> bool:
        """Whether something lies where the log says that nothing does any more."""
        return self.state == "missing" and self.is_found

    @property
    def has_another_size(self) -> bool:
        """Whether it has grown or shrunk."""
        return self.state == "stored" and self.is_found and self.is_whole and self.found_bytes != self.size_bytes


@dataclass(slots=True, kw_only=True)
class Orphan:
    """The largest directory or the file that holds nothing of what the log knows.

    Attributes:
        path: As in `StoredItem`.
        files: How many files it holds.
        size_bytes: The sum of their sizes.
        modified_at: When anything of it was last written or put there.
        is_whole: Whether all of it has been looked into.
    """

    path: bytes
    files: int
    size_bytes: int
    modified_at: datetime
    is_whole: bool = True

    @property
    def is_beside(self) -> bool:
        """Whether it lies in a directory on the way to a checkpoint, and not right below the root."""
        return b"/" in self.path.rstrip(b"/")


class Comparison:
    """Takes the items of one store as they are listed, and gives its orphans one after the other.

    What lies in one directory has to come in one piece, in whatever order. Memory is that of the checkpoints which the
    log knows, and of one orphan.

    Args:
        root: The store's root.
        expected: What the log knows below it.
    """

    def __init__(self, root: Location, expected: Iterable[Expected]) -> None:
        depth = len(root.components)
        self._expected: dict[bytes, Expected] = {}
        self._prefixes: set[bytes] = set()
        self._leading: set[bytes] = set()
        self._orphan: Orphan | None = None
        self._linked: set[bytes] = set()
        for one in expected:
            location = parse_location(one.uri)
            components = location.components[depth:]
            path = b"/".join(components)
            self._expected[path] = one
            if location.is_prefix:
                self._prefixes.add(path)
            self._leading.update(b"/".join(components[:length]) for length in range(1, len(components)))

    @property
    def expected(self) -> Iterable[Expected]:
        """What the log knows, with what has been found of it so far."""
        return self._expected.values()

    @property
    def linked(self) -> Iterable[bytes]:
        """Orphans, and directories that hold some, that links elsewhere in the store lead to, as far as was seen.

        Relative to the root, without a `/` at the end.
        """
        return self._linked

    def take(self, item: StoredItem) -> Orphan | None:
        """Take the next item.

        Returns:
            The orphan that is complete by that; None where there is none.
        """
        owner = self._owner(item.path)
        for target in item.leads_to:
            self._note_link(owner, target)
        if isinstance(owner, Expected):
            owner.is_found = True
            owner.is_whole = owner.is_whole and item.problem is None
            owner.found_bytes += item.size_bytes
            return None
        if owner is None:
            return None
        if self._orphan is not None and self._orphan.path == owner:
            self._orphan.files += not item.is_directory
            self._orphan.size_bytes += item.size_bytes
            self._orphan.modified_at = max(self._orphan.modified_at, item.modified_at)
            self._orphan.is_whole = self._orphan.is_whole and item.problem is None
            return None
        complete, self._orphan = (
            self._orphan,
            Orphan(
                path=owner,
                files=int(not item.is_directory),
                size_bytes=item.size_bytes,
                modified_at=item.modified_at,
                is_whole=item.problem is None,
            ),
        )
        return complete

    def close(self) -> Orphan | None:
        """Return the last orphan, once all items were taken; None where there is none."""
        complete, self._orphan = self._orphan, None
        return complete

    def _note_link(self, owner: Expected | bytes | None, target: bytes) -> None:
        """Remember the orphan that a link leads into, unless the link is a part of it."""
        is_on_the_way = not target or target in self._leading
        reached = target if is_on_the_way else self._owner(target)
        if isinstance(reached, bytes) and reached != owner:
            self._linked.add(reached.rstrip(b"/"))

    def _owner(self, path: bytes) -> Expected | bytes | None:
        """Return the checkpoint that an item belongs to, or the path of its orphan, or None where it is on the way."""
        end = path.find(b"/")
        while end >= 0:
            place = path[:end]
            found = self._expected.get(place)
            if found is not None:
                return found
            if place not in self._leading:
                return path[: end + 1]
            end = path.find(b"/", end + 1)
        if path.endswith(b"/"):
            return None
        found = None if path in self._prefixes else self._expected.get(path)
        return path if found is None else found

"""A store in memory, for tests: it keeps every promise of the port and writes to no disk."""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes

from quota.domain.locations import Location, parse_location
from quota.domain.manifest import Manifest, ManifestEntry
from quota.domain.reconciliation import StoredItem
from quota.domain.space import Space
from quota.errors import CheckpointChanged, CheckpointGone, PathRefused, StoreError, shown
from quota.ports import Marks

_CLAIM_ID = re.compile(r"[0-9a-z][0-9a-z_-]{0,127}")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    version: str
    modified_at: datetime | None


_Files = dict[str, _File]


class MemoryStore:
    """A `quota.ports.CheckpointStore` whose contents a test can set and look at.

    Args:
        root_uri: The location below which it accepts checkpoints, of any scheme.

    Attributes:
        total_bytes: What it can hold; None, where it says nothing of that, until a test sets it.
    """

    total_bytes: int | None = None

    def __init__(self, root_uri: str = "memory://store/") -> None:
        self._root = parse_location(root_uri)
        self._checkpoints: dict[str, _Files] = {}
        self._trash: dict[str, _Files] = {}
        self._versions = itertools.count(1)
        self._mark: str | None = None
        self._names: dict[str, str] = {}

    def add_checkpoint(self, uri: str, files: Mapping[str, bytes], *, modified_at: datetime | None = None) -> None:
        """Write a checkpoint of `files`, named by their paths, in place of what lies at `uri`.

        Args:
            uri: Where.
            files: What.
            modified_at: When it is to seem written; unknown by default.

        Raises:
            PathRefused: `uri` is not strictly below the root.
        """
        self._checkpoints[self._key(uri)] = {
            path: _File(content, f"v{next(self._versions)}", modified_at) for path, content in files.items()
        }

    def remove_checkpoint(self, uri: str) -> None:
        """Take away what lies at `uri`, as somebody might who does not tell."""
        del self._checkpoints[self._key(uri)]

    def add_name(self, uri: str, other: str) -> None:
        """Let `other`, which may lie outside of the store, lead to the same place as `uri`, as a link would."""
        self._names[other] = uri

    def contents(self, uri: str) -> dict[str, bytes] | None:
        """Return what lies at `uri`, None where nothing does.

        Raises:
            PathRefused: `uri` is not strictly below the root.
        """
        return _contents(self._checkpoints.get(self._key(uri)))

    def trash_contents(self, claim_id: str) -> dict[str, bytes] | None:
        """Return what the trash holds of `claim_id`, None where it holds nothing."""
        return _contents(self._trash.get(claim_id))

    def manifest(self, uri: str) -> Manifest:
        """List what the checkpoint at `uri` consists of.

        Raises:
            PathRefused: `uri` is not strictly below the root.
            CheckpointGone: there is nothing at `uri`.
        """
        files = self._checkpoints.get(self._key(uri))
        if files is None:
            raise CheckpointGone(f"checkpoint {uri}: there is nothing at this location")
        return _manifest_of(files)

    def survey(self) -> Generator[StoredItem]:
        """List all files, and the checkpoints that have none."""
        for key, files in sorted(self._checkpoints.items()):
            place = unquote_to_bytes(key.removeprefix(self._root.key))
            yield StoredItem(path=place, size_bytes=0, modified_at=_LONG_AGO)
            for path, file in files.items():
                size, modified_at = len(file.content), file.modified_at or _LONG_AGO
                yield StoredItem(path=place + path.encode(), size_bytes=size, modified_at=modified_at)

    def space(self) -> Space | None:
        """Return what is free of `total_bytes`; None where no test has set these."""
        if self.total_bytes is None:
            return None
        held = (*self._checkpoints.values(), *self._trash.values())
        used = sum(len(file.content) for files in held for file in files.values())
        return Space(
            file_system=self._root.uri, total_bytes=self.total_bytes, free_bytes=max(0, self.total_bytes - used)
        )

    def place(self, uri: str) -> str:
        """Return where `uri` leads by `add_name`."""
        return self._names.get(uri, uri)

    def trash(self, uri: str, claim_id: str, manifest: Manifest) -> None:
        """Move the checkpoint at `uri` into the trash, unless the trash holds `claim_id` already.

        Raises:
            PathRefused: `uri` is not strictly below the root.
            CheckpointGone: neither `uri` nor the trash has anything.
            CheckpointChanged: what lies at `uri` is not what `manifest` names.
            StoreError: `claim_id` is no plain name.
        """
        key = self._key(uri)
        if self.trashed(claim_id):
            return
        if set(self.manifest(uri).entries) != set(manifest.entries):
            raise CheckpointChanged(f"checkpoint {uri}: it changed since its eviction was decided")
        self._trash[claim_id] = self._checkpoints.pop(key)

    def restore(self, uri: str, claim_id: str) -> bool:
        """Move the checkpoint of `claim_id` back from the trash to `uri`.

        Returns:
            False where the trash does not hold `claim_id`.

        Raises:
            PathRefused: `uri` is not strictly below the root.
            CheckpointChanged: something else lies at `uri` now.
            StoreError: `claim_id` is no plain name.
        """
        key = self._key(uri)
        if not self.trashed(claim_id):
            return False
        if key in self._checkpoints:
            raise CheckpointChanged(f"checkpoint {uri}: something else lies there now; the trash is left as it is")
        self._checkpoints[key] = self._trash.pop(claim_id)
        return True

    def purge(self, claim_id: str, manifest: Manifest) -> None:
        """Delete what the trash holds of `claim_id`, provided that `manifest` names all of it.

        Raises:
            CheckpointChanged: the trash holds something that `manifest` does not name; all is kept.
            StoreError: `claim_id` is no plain name.
        """
        self.require_purgeable(claim_id, manifest)
        self._trash.pop(claim_id, None)

    def require_purgeable(self, claim_id: str, manifest: Manifest) -> None:
        """Check that the trash holds nothing of `claim_id` but what `manifest` names.

        Raises:
            CheckpointChanged: it does.
            StoreError: `claim_id` is no plain name.
        """
        if not self.trashed(claim_id):
            return
        held = _manifest_of(self._trash[claim_id])
        unnamed = sorted(entry.path for entry in set(held.entries) - set(manifest.entries))
        if unnamed:
            raise CheckpointChanged(f"claim {claim_id}: the manifest does not name {shown(unnamed)}; it is kept")

    def trashed(self, claim_id: str) -> bool:
        """Tell whether the trash holds anything of `claim_id`.

        Raises:
            StoreError: `claim_id` is no plain name.
        """
        if _CLAIM_ID.fullmatch(claim_id) is None:
            raise StoreError(f"store {self._root.uri}: claim_id is {shown(claim_id)}: it is no plain name")
        return claim_id in self._trash

    def claims(self) -> frozenset[str]:
        """List the claims that the trash holds anything of."""
        return frozenset(self._trash)

    def own_mark(self) -> str | None:
        """Read the mark that `mark` left."""
        return self._mark

    def marks(self) -> Marks:
        """Read the mark that `mark` left; nothing lies above this store."""
        return Marks(self._mark)

    def mark(self, text: str) -> None:
        """Mark the root with a text."""
        self._mark = text

    def _key(self, uri: str) -> str:
        location = self._parsed(uri)
        if not self._root.contains(location) or location.components == self._root.components:
            reason = f"it is not strictly below the root {self._root.uri} of this store"
            raise PathRefused("checkpoint", "uri", uri, reason)
        return location.key

    def _parsed(self, uri: str) -> Location:
        try:
            return parse_location(uri)
        except ValueError as error:
            raise PathRefused("checkpoint", "uri", uri, str(error)) from error


def _manifest_of(files: _Files) -> Manifest:
    entries = (
        ManifestEntry(path=quote(path, safe=_PLAIN), size_bytes=len(file.content), version=file.version)
        for path, file in files.items()
    )
    written = [file.modified_at for file in files.values() if file.modified_at is not None]
    return Manifest.of(entries, max(written, default=None))


def _contents(files: _Files | None) -> dict[str, bytes] | None:
    return None if files is None else {path: file.content for path, file in files.items()}

"""Claims: one object each in the trash, which says what it holds and how far the move has come."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from quota.domain.manifest import Manifest, ManifestEntry
from quota.errors import StoreError, shown
from quota_s3.bucket import Bucket
from quota_s3.deleting import erase
from quota_s3.names import key_of
from quota_s3.objects import PLACEHOLDER_VERSION, Item
from quota_s3.roots import Root

State = Literal["begun", "copied", "moved", "restoring", "restored"]
"""How far a claim has come.

- `begun`: its checkpoint lies at its place, or a part of it is hidden by delete markers; it can be finished or undone.
- `copied`: the trash holds copies of all of it, and its place some of the originals (without versions only).
- `moved`: the trash holds it, and its place does not.
- `restoring`: the trash holds all of it, and its place some copies (without versions only).
- `restored`: its place holds all of it; what is left in the trash is to go, or to be kept for a while (without versions
  only).
"""


RESTORING = ".restoring"
"""How the key of a sign ends that stands beside a claim in the trash."""


class ClaimEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An object of a claimed checkpoint.

    Attributes:
        path: As in the manifest.
        size_bytes: As in the manifest.
        version: As in the manifest.
        etag: What it was when the move began, or is since it was restored.
        modified_at: When that was written.
        written_at: When it was written as the manifest has it, before it was ever restored.
        older_markers: Delete markers of its key that were there before, below the version.
        markers: Those that the claim's own deletes have put there since; None where that is not known, for a process
            can die before it notes what it has put.
        held_etag: What its copy in the trash is; empty before there is one.
        held_modified_at: When the copy was made.
    """

    path: str
    size_bytes: int
    version: str
    etag: str
    modified_at: datetime
    written_at: datetime
    older_markers: tuple[str, ...] = ()
    markers: tuple[str, ...] | None = None
    held_etag: str = ""
    held_modified_at: datetime | None = None

    @property
    def in_manifest(self) -> ManifestEntry:
        """The manifest's line of it."""
        return ManifestEntry(path=self.path, size_bytes=self.size_bytes, version=self.version)

    @property
    def is_placeholder(self) -> bool:
        """Whether it only stands for a directory: it has no content, so it can be written anew at any time."""
        return self.version == PLACEHOLDER_VERSION

    def is_original(self, item: Item) -> bool:
        """Tell whether `item` is what was there when the move began."""
        return item.size_bytes == self.size_bytes and item.is_of(self.etag, self.modified_at)


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the trash holds of a claim.

    Attributes:
        uri: Where the checkpoint lay.
        kind: By which means it is moved.
        state: How far it has come.
        entries: What it consists of.
        unanswered: Whether deletions that were requested of it may still be carried out: some were not answered, or the
            process that made them may be frozen and go on. Then it is kept when it has been undone, until it is
            released, for what is deleted late can be brought back by it alone.
        owner: Who has written it last. Each process that takes it up writes its own, so that the one before, which may
            be frozen, sees that it no longer is its own.
    """

    uri: str
    kind: Literal["markers", "copies"]
    state: State
    entries: tuple[ClaimEntry, ...]
    unanswered: bool = False
    owner: str = ""

    @property
    def written_at(self) -> datetime | None:
        """When the last of it was written; None where all of it only stands for directories."""
        return max((entry.written_at for entry in self.entries if not entry.is_placeholder), default=None)


class Place:
    """A claim's place in the trash, and its checkpoint's in the store.

    Args:
        root: The store's root.
        bucket: The bucket that it is in.
        claim_id: The claim.
        owner: Who works on it.

    Raises:
        StoreError: `claim_id` is no plain name.
    """

    def __init__(self, root: Root, bucket: Bucket, claim_id: str, owner: str) -> None:
        self.root = root
        self.bucket = bucket
        self.owner = owner
        self._etag: str | None = None
        self.key = root.claim_key(claim_id)
        self.subject = f"claim {claim_id} in the trash of store {root.uri}"

    @property
    def copies(self) -> str:
        """What the keys of the claim's copies begin with."""
        return f"{self.key}.d/"

    @property
    def sign(self) -> str:
        """The key of the object that says that a restore of the claim was begun. No claim has a dot in its name."""
        return f"{self.key}{RESTORING}"

    def find(self) -> Claim | None:
        """Read the claim; None where the trash has nothing of it.

        Raises:
            StoreError: it cannot be read, or is damaged.
        """
        stored = self.bucket.read(self.key)
        self._etag = None if stored is None else stored.item.etag
        if stored is None:
            return None
        try:
            return msgspec.json.decode(stored.body, type=Claim)
        except msgspec.MsgspecError as error:
            advice = "look at its earlier versions, or at the checkpoint itself; nothing was touched"
            raise StoreError(f"{self.subject}: the object {shown(self.key)} is damaged: {error}; {advice}") from error

    def find_of(self, uri: str) -> Claim | None:
        """Read the claim on the checkpoint at `uri`; None where the trash has nothing of it.

        Raises:
            StoreError: as `find`, or it is a claim on another checkpoint.
        """
        claim = self.find()
        if claim is not None and claim.uri != uri:
            raise StoreError(f"{self.subject}: it is on {shown(claim.uri)}, not on {shown(uri)}; nothing was touched")
        return claim

    def write(self, claim: Claim) -> Claim:
        """Record how far the claim has come, and that it is this process's own. Durable on return.

        Raises:
            StoreError: it cannot be written, or another process has since it was last read or written here.
        """
        claim = msgspec.structs.replace(claim, owner=self.owner)
        body = msgspec.json.format(msgspec.json.encode(claim), indent=1)
        self._etag = self.bucket.write_if_same(self.key, body, self._etag)
        return claim

    def require_untaken(self) -> None:
        """Check that no other process has written or removed the claim since it was last read or written here.

        This is asked before anything is destroyed by what the claim said then: a process may be frozen in between.

        Raises:
            StoreError: one has, or it cannot be read.
        """
        stored = self.bucket.read(self.key)
        if stored is None or stored.item.etag != self._etag:
            raise StoreError(f"{self.subject}: another process has taken it up meanwhile; nothing more was touched")

    def put_up_sign(self) -> None:
        """Let the trash's listing say that a restore of the claim was begun.

        Raises:
            StoreError: it cannot be written.
        """
        self.bucket.write(self.sign, b"")

    def take_down_sign(self) -> None:
        """Let the listing say so no longer.

        Raises:
            StoreError: it cannot be removed.
        """
        erase(self.bucket, self.sign, {self.sign})

    def forget(self) -> None:
        """Remove the claim from the trash, and its sign.

        Raises:
            StoreError: it cannot be removed.
        """
        erase(self.bucket, self.key, {self.key, self.sign})
        self._etag = None


def unanswered(claim: Claim) -> Claim:
    """Return the claim as one of which deletions may still be carried out."""
    return msgspec.structs.replace(claim, unanswered=True)


def taken_up(claim: Claim) -> Claim:
    """Return a claim that another process has begun to move or restore: it may be frozen, and go on.

    Where each delete marker is noted, a restore was cut off, and all that the move has requested was answered.
    """
    if claim.kind == "markers" and all(entry.markers is not None for entry in claim.entries):
        return claim
    return unanswered(claim)


def advanced(claim: Claim, state: State, entries: tuple[ClaimEntry, ...] | None = None) -> Claim:
    """Return the claim as it is one step on."""
    return msgspec.structs.replace(claim, state=state, entries=claim.entries if entries is None else entries)


def manifest_entries(claim: Claim) -> tuple[ManifestEntry, ...]:
    """Return the lines of the manifest that the claim was made with."""
    return tuple(entry.in_manifest for entry in claim.entries)


def keyed(claim: Claim, prefix: str) -> dict[str, ClaimEntry]:
    """Return the claim's entries by the keys that they have below `prefix`."""
    return {key_of(prefix, entry.path): entry for entry in claim.entries}


def differing_paths(claim: Claim, manifest: Manifest) -> set[str]:
    """Return the paths of what the claim holds and `manifest` does not name just so."""
    return {entry.path for entry in set(manifest_entries(claim)) - set(manifest.entries)}

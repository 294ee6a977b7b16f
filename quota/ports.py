"""What the product needs of the world, as small protocols. Adapters implement them.

Stores are found through the entry-point group `quota.stores`: its name is a URI scheme, its value a function
`open_store(root_uri: str) -> CheckpointStore`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from quota.domain.manifest import Manifest
from quota.domain.reconciliation import StoredItem
from quota.domain.space import Space
from quota.errors import CheckpointChanged, shown_paths


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the time, with a zone."""
        ...


class CheckpointReader(Protocol):
    """The half of a store that a dry run holds: it looks, and cannot delete."""

    def manifest(self, uri: str) -> Manifest:
        """List what the checkpoint at `uri` consists of, at this moment.

        Raises:
            PathRefused: `uri` is not strictly below the store's root, or what lies there is nothing that this
                store may delete (a device, another file system, a way through a symbolic link …).
            CheckpointGone: there is nothing at `uri`.
            StoreError: the store cannot be reached or read.
        """
        ...

    def survey(self) -> Generator[StoredItem]:
        """List all that lies below the root outside of the trash, page by page, each directory's contents in one piece.

        What appears or vanishes meanwhile may be listed or not. What may not be looked into is listed with its problem.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        ...

    def space(self) -> Space | None:
        """Return how full the file system is that the root lies on; None where there is no end, as in a bucket.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        ...

    def place(self, uri: str) -> str:
        """Return where `uri` really leads on this medium: two names of one place give the same answer.

        `uri` is any location of the store's scheme, below its root or not, and nothing need lie there.

        Raises:
            StoreError: that cannot be told, e.g. since this process may not look there.
        """
        ...


@dataclass(frozen=True, slots=True)
class Marks:
    """By which marks a store's root is known, whatever name it was reached by.

    Attributes:
        own: The text that `mark` left at the root; None where it left none.
        above: Marks of the places that the root lies in, innermost first.
    """

    own: str | None
    above: tuple[str, ...] = ()


class CheckpointStore(CheckpointReader, Protocol):
    """A root below which checkpoints may be deleted, in two steps: into the trash, and out of it.

    `claim_id` is the id of the committed decision that entitles the caller to act. Every method may be called
    again after a crash with the same arguments, and then finishes what was begun.
    """

    def trash(self, uri: str, claim_id: str, manifest: Manifest) -> None:
        """Move the checkpoint at `uri` into the trash under `claim_id`. Once this returns, it is durable.

        Returns without doing anything where the trash holds `claim_id` already: then what lies at `uri` is a later
        checkpoint, and not this claim's.

        Raises:
            CheckpointGone: neither `uri` nor the trash has anything.
            CheckpointChanged: what lies at `uri` is not what `manifest` names. Nothing was moved.
            PathRefused: as in `manifest`.
            StoreError: the store refused or failed; nothing was moved.
        """
        ...

    def restore(self, uri: str, claim_id: str) -> bool:
        """Move the checkpoint of `claim_id` back from the trash to `uri`, byte for byte. Durable on return.

        Returns:
            False where the trash does not hold `claim_id`, e.g. because it was never moved there.

        Raises:
            CheckpointChanged: something else lies at `uri` now; the trash is left as it is.
            StoreError: the store refused or failed; the trash is left as it is.
        """
        ...

    def purge(self, claim_id: str, manifest: Manifest) -> None:
        """Delete what the trash holds of `claim_id`, as far as `manifest` names it. This is final.

        Once this returns, the trash holds nothing of `claim_id`, whoever deleted it.

        Raises:
            CheckpointChanged: the trash holds something that `manifest` does not name; it is kept.
            DeletionForbidden: nobody may delete some of it; calling again by itself does no good.
            StoreError: the store refused or failed part of the way; calling again goes on.
        """
        ...

    def require_purgeable(self, claim_id: str, manifest: Manifest) -> None:
        """Check that the trash holds nothing of `claim_id` but what `manifest` names, and touch nothing.

        Raises:
            CheckpointChanged: it does; as it stands, `purge` would refuse to delete any of it.
            StoreError: the store cannot be reached or read.
        """
        ...

    def trashed(self, claim_id: str) -> bool:
        """Tell whether the trash holds anything of `claim_id`."""
        ...

    def claims(self) -> frozenset[str]:
        """List the claims that the trash holds anything of. One of which a crash left traces only may be among them.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        ...

    def own_mark(self) -> str | None:
        """Read the mark that `mark` left at the root; None where it has none.

        This is asked each time before a store is used, so it looks at nothing but the root.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        ...

    def marks(self) -> Marks:
        """Read the root's own mark, and those of all places that the root lies in.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        ...

    def mark(self, text: str) -> None:
        """Mark the root with a text, in place of any earlier mark. Durable on return, and whole or not at all.

        No checkpoint may hold the mark, and no walk lists it. Each sweep leaves one, also on a full disk, where it is
        to make room.

        Args:
            text: One line of printable ASCII, of at most 150 characters.

        Raises:
            StoreError: the store refused or failed.
        """
        ...


@runtime_checkable
class SparingStore(Protocol):
    """What a store offers besides where files that must never go may lie among its checkpoints.

    One that lies on this host's disks needs it. Others may do without.
    """

    def spare(self, files: Mapping[Path, str]) -> None:
        """From now on refuse each checkpoint that is or holds one of `files`, by whatever name; delete none of them.

        Then `manifest` and `trash` raise `PathRefused`, and `purge` keeps all and raises `CheckpointChanged`. The files
        may come and go: which ones there are is looked up by each of these calls.

        Args:
            files: Absolute paths, and what each is, as an error says it.
        """
        ...


@runtime_checkable
class LinkingStore(Protocol):
    """What a store offers besides where a checkpoint may hold symbolic links."""

    def place(self, uri: str) -> str:
        """As in `CheckpointReader`."""
        ...

    def links(self, uri: str) -> frozenset[str]:
        """Return where the symbolic links in the checkpoint at `uri` lead, and which further links they need for that.

        Each is named as `place` names it. The links themselves may be among them.

        Raises:
            PathRefused: as in `CheckpointReader.manifest`.
            CheckpointGone: there is nothing at `uri`.
            StoreError: the store cannot be reached or read.
        """
        ...


@runtime_checkable
class BeholdingStore(Protocol):
    """What a store offers besides where file systems may be mounted below its root."""

    def behold(self, uri: str) -> Manifest:
        """List what lies at `uri`, also where that is on another file system, which `manifest` refuses.

        Nothing of that may be deleted, and by `manifest` nothing is.

        Raises:
            PathRefused: as in `CheckpointReader.manifest`, for any other reason.
            CheckpointGone: there is nothing at `uri`.
            StoreError: the store cannot be reached or read.
        """
        ...


@runtime_checkable
class UsableStore(Protocol):
    """What a store offers besides where it can tell beforehand whether this process may move anything in it."""

    def require_usable(self) -> None:
        """Check that this process may move checkpoints from the root into the trash. Touch nothing that is there.

        Raises:
            PathRefused: the trash is none that the store may use.
            StoreError: it may not; the message names the path.
        """
        ...


@runtime_checkable
class DistantStore(Protocol):
    """What a store offers besides where a move takes many requests, and each may be carried out after it was given up.

    A process may be frozen between two of them, and a server may do late what nobody waits for any more. So a claim
    whose deletions are not known to have ended is kept after it was undone: then `restore` brings back what they still
    take away, and returns False where that is nothing.
    """

    def fence(self, require: Callable[[], None]) -> None:
        """From now on call `require` before each request that moves, gives back or deletes anything.

        What it raises ends the call, and what was begun is left to whoever takes the claim up. Where it raises
        `LeaseLost` before the first request of a `restore`, what this store object has moved itself and nobody has
        taken up since is given back all the same, and nothing of its claim is deleted.
        """
        ...

    def unsettled(self) -> frozenset[str]:
        """List the claims whose restore was begun, and may have been cut off.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        ...

    def release(self, uri: str, claim_id: str) -> None:
        """Forget a claim that was undone and is kept, with its copies. What lies at `uri` is left alone.

        Does nothing where the claim was moved into the trash (again).

        Raises:
            StoreError: the store refused or failed.
        """
        ...


def require_same(subject: str, present: Manifest, expected: Manifest) -> None:
    """Compare what lies at a checkpoint's location with what should, as every store does before it moves anything.

    Raises:
        CheckpointChanged: they differ; the message names the first few paths.
    """
    differing = set(present.entries) ^ set(expected.entries)
    if differing:
        paths = shown_paths(entry.path for entry in differing)
        raise CheckpointChanged(f"{subject}: it changed since its eviction was decided: {paths}; nothing was moved")

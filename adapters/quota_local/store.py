"""The store: what the port promises, on a local disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from quota.domain.manifest import Manifest
from quota.domain.reconciliation import StoredItem
from quota.domain.space import Space
from quota.errors import CheckpointGone, PathRefused, StoreError
from quota.ports import Marks, require_same
from quota_local.boundary import status_or_none
from quota_local.failures import failures_named
from quota_local.listing import links_in, manifest_of
from quota_local.marking import read_mark, read_marks, write_mark
from quota_local.moving import move_in, move_out, settle
from quota_local.places import Places
from quota_local.purging import purge_entry, require_purgeable
from quota_local.roots import OpenRoot, Root
from quota_local.surveying import survey
from quota_local.trashing import claim_name, claims_in, existing_trash, made_trash, require_access
from quota_local.walking import Spot
from quota_local.way import parent_of, spelled

_PURGE_ATTEMPTS = 100


def open_store(root_uri: str) -> LocalStore:
    """Open the store whose root is the directory that `root_uri` names, e.g. `file:///scratch/hpo`.

    The root must be there. It may be a mount point, and symbolic links may lead to it: they are followed now, and
    from then on that directory is meant, whatever the links say later.

    Raises:
        PathRefused: `root_uri` is no absolute `file` URI, or names no directory, `/` or a home directory.
        StoreError: it cannot be looked at.
    """
    return LocalStore(Root.find(root_uri))


class LocalStore:
    """Checkpoints below one directory. Implements `quota.ports.CheckpointStore`.

    A checkpoint is a directory, or a single file; the manifest of the latter has one entry, whose path is `.`.
    Holds no descriptor between calls, and no state but what the root was when it was opened, and which names were found
    to lead to one directory; so one store can serve several threads.

    Two callers must not work on one checkpoint at a time: the port's callers hold the stream's lock or a claim.
    Whatever else writes to the disk meanwhile (a tuner, a user, an attacker who owns some of the directories) can
    make a call fail, and never makes it move or delete anything outside of the store.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._uri = root.location.uri
        self._places = Places()

    def manifest(self, uri: str) -> Manifest:
        """List what the checkpoint at `uri` consists of. Empty directories are kept, and not listed.

        Raises:
            PathRefused: `uri` is not strictly below the root; the way to it leads through a symbolic link or onto
                another file system; it is or holds a device, a socket, a FIFO, a mount point, a home directory or
                a trash.
            CheckpointGone: there is nothing at `uri`.
            CheckpointChanged: it was written to while it was listed.
            StoreError: the store cannot be reached or read.
        """
        components = self._root.locate(uri)
        subject = f"checkpoint {uri}"
        with (
            failures_named(self._uri, f"list {uri}"),
            self._root.opened() as root,
            parent_of(root.fd, components, root.boundary, subject) as parent_fd,
        ):
            return manifest_of(_found(root, parent_fd, components[-1], subject))

    def survey(self) -> Generator[StoredItem]:
        """List all that lies below the root outside of the trash. Symbolic links are listed, never followed.

        Raises:
            PathRefused: another directory has taken the root's place.
            StoreError: the root cannot be reached or read.
        """
        with failures_named(self._uri, "list what lies in it"), self._root.opened() as root:
            yield from survey(root)

    def space(self) -> Space:
        """Return how full the file system is that the root lies on, as `df` tells it.

        What is reserved for root is nothing that a tuner could fill, so it counts neither as total nor as free.

        Raises:
            StoreError: the root cannot be reached.
        """
        with failures_named(self._uri, "tell how much is free"), self._root.opened() as root:
            told = os.fstatvfs(root.fd)
            used = told.f_blocks - told.f_bfree
            return Space(
                file_system=str(root.boundary.device),
                total_bytes=(used + told.f_bavail) * told.f_frsize,
                free_bytes=told.f_bavail * told.f_frsize,
            )

    def place(self, uri: str) -> str:
        """Return where `uri` really leads: links are followed, and a directory that is mounted twice has one name.

        Raises:
            StoreError: a directory on the way cannot be looked at.
        """
        with failures_named(self._uri, f"follow {uri}"):
            return self._places.of(uri)

    def behold(self, uri: str) -> Manifest:
        """List what lies at `uri`, also where that is on a file system that is mounted below the root.

        Raises:
            PathRefused: as in `manifest`, but for mounts.
            CheckpointGone: there is nothing at `uri`.
            CheckpointChanged: it was written to while it was listed.
            StoreError: the store cannot be reached or read.
        """
        components = self._root.locate(uri)
        subject = f"checkpoint {uri}"
        with failures_named(self._uri, f"look at {uri}"), self._root.opened() as opened:
            root = replace(opened, boundary=opened.boundary.lifted)
            with parent_of(root.fd, components, root.boundary, subject) as parent_fd:
                return manifest_of(_found(root, parent_fd, components[-1], subject))

    def links(self, uri: str) -> frozenset[str]:
        """Return where the symbolic links in the checkpoint at `uri` lead, and which links they lead through.

        Raises:
            PathRefused: as in `manifest`.
            CheckpointGone: there is nothing at `uri`.
            CheckpointChanged: it was written to while it was listed.
            StoreError: the store cannot be reached or read, or a directory on the way of a link cannot be looked at.
        """
        components = self._root.locate(uri)
        subject = f"checkpoint {uri}"
        with (
            failures_named(self._uri, f"follow the links in {uri}"),
            self._root.opened() as root,
            parent_of(root.fd, components, root.boundary, subject) as parent_fd,
        ):
            place = self._root.path.joinpath(*map(os.fsdecode, components))
            paths = links_in(_found(root, parent_fd, components[-1], subject))
            return frozenset(reached for path in paths for reached in self._places.on_the_way(place / path))

    def trash(self, uri: str, claim_id: str, manifest: Manifest) -> None:
        """Move the checkpoint at `uri` into the trash under `claim_id`, by one rename. Durable on return.

        Returns without doing anything where the trash holds `claim_id` already.

        Raises:
            CheckpointGone: neither `uri` nor the trash has anything.
            CheckpointChanged: what lies at `uri` is not what `manifest` names. Nothing was moved. (Where it
                changed right before the rename, and something else lies at `uri` right after, the trash keeps it.)
            PathRefused: as in `manifest`, or the trash is no directory on the root's file system.
            StoreError: `claim_id` is no plain name, or the store refused or failed; nothing was moved. (Where a
                failing disk does not even let the rename be undone, `trashed` tells.)
        """
        components = self._root.locate(uri)
        name = claim_name(self._uri, claim_id)
        subject = f"checkpoint {uri}"
        with failures_named(self._uri, f"move {uri} into the trash"), self._root.opened() as root:
            with existing_trash(root, self._uri) as trash_fd:
                if trash_fd is not None and status_or_none(trash_fd, name) is not None:
                    settle(root, trash_fd, components, subject)
                    return
            with parent_of(root.fd, components, root.boundary, subject) as parent_fd:
                spot = _found(root, parent_fd, components[-1], subject)
                require_same(subject, manifest_of(spot), manifest)
                with made_trash(root, self._uri) as trash_fd:
                    move_in(spot, trash_fd, name, manifest)

    def restore(self, uri: str, claim_id: str) -> bool:
        """Move the checkpoint of `claim_id` back from the trash to `uri`, by one rename that replaces nothing.

        Directories on the way that were removed meanwhile are made anew, with the rights that the process gives.

        Returns:
            False where the trash does not hold `claim_id`. A restore that a crash cut off right after its rename
            answers so too, and has made the rename durable: what lies at `uri` tells.

        Raises:
            CheckpointChanged: something else lies at `uri` or in the way to it; the trash is left as it is.
            PathRefused: `uri` is not strictly below the root; the way to it leads through a symbolic link or onto
                another file system; the trash is no directory on the root's file system.
            StoreError: `claim_id` is no plain name, or the store refused or failed; the trash is left as it is.
        """
        components = self._root.locate(uri)
        name = claim_name(self._uri, claim_id)
        subject = f"checkpoint {uri}"
        with (
            failures_named(self._uri, f"restore {uri} from the trash"),
            self._root.opened() as root,
            existing_trash(root, self._uri) as trash_fd,
        ):
            if trash_fd is None:
                return False
            if status_or_none(trash_fd, name) is None:
                settle(root, trash_fd, components, subject)
                return False
            with parent_of(root.fd, components, root.boundary, subject, create=True) as parent_fd:
                move_out(trash_fd, name, parent_fd, components[-1], subject)
            return True

    def purge(self, claim_id: str, manifest: Manifest) -> None:
        """Delete what the trash holds of `claim_id`, provided that `manifest` names all of it. This is final.

        Once this returns, the trash holds nothing of `claim_id`, whoever deleted it, and will not after a power cut.
        A file with another hard link elsewhere is unlinked here and frees nothing.

        Raises:
            CheckpointChanged: the trash holds something that `manifest` does not name, or that was written to
                after it was trashed; all that is left is kept.
            PathRefused: the trash is no directory on the root's file system.
            StoreError: `claim_id` is no plain name, or the store refused or failed part of the way; calling again
                goes on.
        """
        name = claim_name(self._uri, claim_id)
        subject = f"claim {claim_id} in the trash of store {self._uri}"
        with (
            failures_named(self._uri, f"purge claim {claim_id} from the trash"),
            self._root.opened() as root,
            existing_trash(root, self._uri) as trash_fd,
        ):
            if trash_fd is None:
                return
            for _ in range(_PURGE_ATTEMPTS):
                seen = status_or_none(trash_fd, name)
                if seen is None:
                    os.fsync(trash_fd)
                    return
                spot = Spot(parent_fd=trash_fd, name=name, seen=seen, boundary=root.boundary, subject=subject)
                # Another sweeper may be deleting the same claim; what it took is just what was to go.
                with suppress(FileNotFoundError):
                    purge_entry(spot, manifest)
        raise StoreError(f"{subject}: its files keep vanishing while they are deleted; check the file system")

    def require_purgeable(self, claim_id: str, manifest: Manifest) -> None:
        """Check that the trash holds nothing of `claim_id` but what `manifest` names.

        Raises:
            CheckpointChanged: it holds something else, or something that was written to after it was trashed.
            PathRefused: the trash is no directory on the root's file system.
            StoreError: `claim_id` is no plain name, or the store cannot be read.
        """
        name = claim_name(self._uri, claim_id)
        subject = f"claim {claim_id} in the trash of store {self._uri}"
        with (
            failures_named(self._uri, f"look at claim {claim_id} in the trash"),
            self._root.opened() as root,
            existing_trash(root, self._uri) as trash_fd,
        ):
            seen = None if trash_fd is None else status_or_none(trash_fd, name)
            if trash_fd is None or seen is None:
                return
            spot = Spot(parent_fd=trash_fd, name=name, seen=seen, boundary=root.boundary, subject=subject)
            # What another sweeper deletes meanwhile was to go.
            with suppress(FileNotFoundError):
                require_purgeable(spot, manifest)

    def trashed(self, claim_id: str) -> bool:
        """Tell whether the trash holds anything of `claim_id`.

        Raises:
            PathRefused: the trash is no directory on the root's file system.
            StoreError: `claim_id` is no plain name, or the store cannot be reached.
        """
        name = claim_name(self._uri, claim_id)
        with (
            failures_named(self._uri, f"look for claim {claim_id} in the trash"),
            self._root.opened() as root,
            existing_trash(root, self._uri) as trash_fd,
        ):
            return trash_fd is not None and status_or_none(trash_fd, name) is not None

    def claims(self) -> frozenset[str]:
        """List the claims that the trash holds anything of.

        Raises:
            PathRefused: the trash is no directory on the root's file system.
            StoreError: the store cannot be reached or read.
        """
        with (
            failures_named(self._uri, "list the trash"),
            self._root.opened() as root,
            existing_trash(root, self._uri) as trash_fd,
        ):
            return frozenset() if trash_fd is None else claims_in(trash_fd)

    def own_mark(self) -> str | None:
        """Read the mark in the root's trash.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        with failures_named(self._uri, "read the store's mark"), self._root.opened() as root:
            return read_mark(root.fd)

    def marks(self) -> Marks:
        """Read the mark in the root's trash, and those in the trashes of all directories above the root.

        Raises:
            StoreError: the store cannot be reached or read.
        """
        with failures_named(self._uri, "read the store's mark"), self._root.opened() as root:
            return read_marks(root.fd, self._root.path)

    def mark(self, text: str) -> None:
        """Mark the root with a text: in a file of its trash.

        Raises:
            PathRefused: the trash is no directory on the root's file system.
            StoreError: the store refused or failed.
        """
        with (
            failures_named(self._uri, "mark the root"),
            self._root.opened() as root,
            made_trash(root, self._uri) as trash_fd,
        ):
            write_mark(trash_fd, text)

    def require_usable(self) -> None:
        """Check that this process may move what lies in the root into its trash. Touches nothing.

        Whether it may move a checkpoint that lies deeper, or a directory of another user, is seen when it is tried.

        Raises:
            PathRefused: the trash is no directory on the root's file system.
            StoreError: it may not read, write and search the root, or the trash.
        """
        with failures_named(self._uri, "move anything into its trash"), self._root.opened() as root:
            require_access(root, self._root.path)
            with existing_trash(root, self._uri):
                pass

    def spare(self, files: Mapping[Path, str]) -> None:
        """From now on refuse each checkpoint that is or holds one of `files`, and delete none of them.

        They are told by device and inode, so hard links to them and bind mounts above them count.

        Args:
            files: Absolute paths, and what each is. Where one is a symbolic link, it is spared as well as its target.
        """
        self._root = replace(self._root, spared=dict(files))


def _found(root: OpenRoot, parent_fd: int, name: bytes, subject: str) -> Spot:
    seen = status_or_none(parent_fd, name)
    if seen is None:
        raise CheckpointGone(f"{subject}: there is nothing at this location")
    if stat.S_ISLNK(seen.st_mode):
        reason = "it is a symbolic link; a checkpoint is a directory or a file"
        raise PathRefused(subject, "path", spelled(name), reason)
    return Spot(parent_fd=parent_fd, name=name, seen=seen, boundary=root.boundary, subject=subject)

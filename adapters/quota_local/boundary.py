"""Where a store ends: the limits that no walk crosses."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from quota.domain.identifiers import TRASH_NAME
from quota.errors import PathRefused
from quota_local.kernel import mount_id

Identity = tuple[int, int]


def identity(status: os.stat_result) -> Identity:
    """Return what tells one file from all others while it exists: device and inode."""
    return status.st_dev, status.st_ino


def status_or_none(dir_fd: int, name: bytes) -> os.stat_result | None:
    """Look at `name` in `dir_fd`, never through a symbolic link; None where there is nothing.

    Raises:
        OSError: as `os.stat` would, except that nothing was found.
    """
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """What is the store's own.

    Attributes:
        device: Number of the file system that the root is on.
        mount: Id of the mount that the root is seen through, None where the system does not tell.
        trash: The store's trash, None where it has none yet.
        sacred: Directories and files that no checkpoint may be or hold, and what they are.
    """

    device: int
    mount: int | None
    trash: Identity | None
    sacred: Mapping[Identity, str]

    def check_file_system(self, subject: str, path: str, status: os.stat_result, mount: int | None) -> None:
        """Refuse what is mounted below the root.

        Raises:
            PathRefused: `status` or `mount` is not of the root's file system.
        """
        if status.st_dev != self.device or mount != self.mount:
            reason = "it is a mount point or on another file system than the store's root"
            raise PathRefused(subject, "path", path, f"{reason}; make it a store of its own, or unmount it")

    @property
    def lifted(self) -> LiftedBoundary:
        """The same for who only looks: mounts end nothing."""
        return LiftedBoundary(device=self.device, mount=self.mount, trash=self.trash, sacred=self.sacred)

    def check_on_the_way(self, subject: str, path: str, fd: int, status: os.stat_result) -> None:
        """Refuse a directory that leads out of the store, or into its trash under another name.

        Raises:
            PathRefused: the directory is none that a checkpoint may lie in.
        """
        self.check_file_system(subject, path, status, mount_id(fd))
        own_trash = status_or_none(fd, TRASH_NAME.encode())
        if own_trash is not None and stat.S_ISDIR(own_trash.st_mode):
            # What another store evicted is still promised to whoever restores it there.
            reason = f"it has a `{TRASH_NAME}`, so it is another store's root; no checkpoint lies in two stores"
            raise PathRefused(subject, "path", path, reason)
        # A file system that ignores case knows the trash by names that no URI rule refuses.
        if identity(status) == self.trash:
            raise PathRefused(subject, "path", path, "it is the store's trash; only the sweep works there")

    def check_inside(self, subject: str, path: str, fd: int, status: os.stat_result) -> None:
        """Refuse a directory that is no part of any checkpoint.

        Raises:
            PathRefused: the directory is none that may be deleted.
        """
        self.check_on_the_way(subject, path, fd, status)
        what = self.sacred.get(identity(status))
        if what is not None:
            raise PathRefused(subject, "path", path, f"it is {what}; a checkpoint is a directory of its own")

    def check_file(self, subject: str, path: str, dir_fd: int, name: bytes, status: os.stat_result) -> None:
        """Refuse a file that is mounted over another, or is none that may be deleted.

        Raises:
            PathRefused: the file belongs to another mount, or must be kept, under whatever name.
            OSError: the file vanished.
        """
        self.check_file_system(subject, path, status, mount_id(dir_fd, name))
        what = self.sacred.get(identity(status))
        if what is not None:
            raise PathRefused(subject, "path", path, f"it is {what}; keep it apart from checkpoints")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftedBoundary(Boundary):
    """A store's boundary that takes in what is mounted below the root."""

    def check_file_system(self, subject: str, path: str, status: os.stat_result, mount: int | None) -> None:
        """Refuse nothing."""

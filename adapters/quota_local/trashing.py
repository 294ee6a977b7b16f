"""The trash: `.trash` at the store's root, one entry a claim."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quota.domain.identifiers import TRASH_NAME
from quota.errors import PathRefused, StoreError, shown
from quota_local.boundary import status_or_none
from quota_local.kernel import mount_id
from quota_local.roots import OpenRoot
from quota_local.way import open_seen

_NAME = TRASH_NAME.encode()
# Others may look up the store's mark by its name, and see nothing of what was evicted.
_MODE = 0o711
# Lower case only: a file system that ignores case would take two ids for one.
_CLAIM_ID = re.compile(r"[0-9a-z][0-9a-z_-]{0,127}")


def claim_name(store_uri: str, claim_id: str) -> bytes:
    """Return the name of the claim's entry in the trash.

    Raises:
        StoreError: `claim_id` is no plain name, such as a UUID is.
    """
    if _CLAIM_ID.fullmatch(claim_id) is None:
        reason = "a claim id is a UUID in lower case, or another plain name of a-z, 0-9, `-` and `_`"
        raise StoreError(f"store {store_uri}: claim_id is {shown(claim_id)}: {reason}")
    return claim_id.encode()


def claims_in(trash_fd: int) -> frozenset[str]:
    """Return the claims that the trash has an entry of.

    Raises:
        OSError: it cannot be read.
    """
    return frozenset(name for name in os.listdir(trash_fd) if _CLAIM_ID.fullmatch(name))


@contextmanager
def existing_trash(root: OpenRoot, store_uri: str) -> Iterator[int | None]:
    """Open the store's trash; None where there is none yet.

    Raises:
        PathRefused: it is no directory of the store's own, or on another file system.
        CheckpointChanged: it was replaced meanwhile.
        OSError: it cannot be opened.
    """
    status = status_or_none(root.fd, _NAME)
    if status is None:
        yield None
        return
    subject = f"trash of store {store_uri}"
    if not stat.S_ISDIR(status.st_mode):
        reason = "it is no directory; move it away, and the sweep makes its own"
        raise PathRefused(subject, "path", TRASH_NAME, reason)
    fd = open_seen(root.fd, _NAME, status, subject)
    try:
        root.boundary.check_file_system(subject, TRASH_NAME, status, mount_id(fd))
        yield fd
    finally:
        os.close(fd)


def require_access(root: OpenRoot, path: Path) -> None:
    """Check that this process may read, write and search the root, and the trash where there is one.

    Raises:
        OSError: it may not; the error names the full path.
    """
    require_access_to(root.fd, b".", path)
    if status_or_none(root.fd, _NAME) is not None:
        require_access_to(root.fd, _NAME, path / TRASH_NAME)


def require_access_to(dir_fd: int, name: bytes, path: str | Path) -> None:
    """Check that this process may read, write and search the directory `name` in `dir_fd`.

    Raises:
        OSError: it may not, or the disk is read-only; the error names `path`.
    """
    if not os.access(name, os.R_OK | os.W_OK | os.X_OK, dir_fd=dir_fd, effective_ids=True):
        code = errno.EROFS if os.fstatvfs(dir_fd).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(code, os.strerror(code), str(path))


@contextmanager
def made_trash(root: OpenRoot, store_uri: str) -> Iterator[int]:
    """Open the store's trash, and make it where there is none yet.

    Raises:
        PathRefused: it is no directory of the store's own, or on another file system.
        CheckpointChanged: it was replaced meanwhile.
        OSError: it cannot be opened or made.
    """
    with suppress(FileExistsError):
        os.mkdir(_NAME, mode=_MODE, dir_fd=root.fd)
        os.fsync(root.fd)
    with existing_trash(root, store_uri) as fd:
        if fd is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), TRASH_NAME)
        yield fd

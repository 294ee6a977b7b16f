"""What the operating system refused, said so that an operator knows what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from quota.errors import StoreError, shown

_ADVICE = {
    errno.ENOSPC: "free some space by hand first: even a rename needs a little",
    errno.EDQUOT: "the disk quota of this user is used up; free some space or raise it",
    errno.EROFS: "the file system is mounted read-only; look for disk errors, then remount it writable",
    errno.EACCES: "run as a user who may write here, or mend the permissions",
    errno.EPERM: "run as a user who may write here, or clear the immutable attribute (`lsattr`)",
    errno.ENOENT: "it vanished; check that the store is mounted, then try again",
    errno.ESTALE: "the network file system went away; remount it, then try again",
    errno.EIO: "the disk fails; look at the kernel's log before anything else",
    errno.EXDEV: "the trash must be on the file system of what it takes; make the other one a store of its own",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "raise the system's limit on open files (fs.file-max)",
    errno.EBUSY: "something is mounted there or uses it; unmount it, then try again",
}


@contextmanager
def failures_named(store_uri: str, task: str) -> Iterator[None]:
    """Turn any `OSError` of the block into a `StoreError` that names the store, the path, the cause and a cure.

    Raises:
        StoreError: the block raised an `OSError`.
    """
    try:
        yield
    except OSError as error:
        path = "".join(f" {word} {name}" for word, name in zip(("at", "to"), _paths_of(error), strict=False))
        advice = _ADVICE.get(error.errno or 0, "mend the cause, then try again")
        raise StoreError(f"store {store_uri}: cannot {task}: {cause_of(error)}{path}; {advice}") from error


def _paths_of(error: OSError) -> list[str]:
    """Return what an error is about: of a rename that are two paths."""
    names = (error.filename, error.filename2)
    return [shown(os.fsdecode(name)) for name in names if isinstance(name, (str, bytes))]


def cause_of(error: OSError) -> str:
    """Return what the system said, in words and by its name."""
    code = error.errno or 0
    return f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"

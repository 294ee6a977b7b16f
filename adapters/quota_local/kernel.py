"""Two system calls that Python does not offer, and what stands in where the kernel lacks them."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

_RENAME_NOREPLACE = 1
_STATX_MNT_ID = 0x1000
_STATX_FLAGS = 0x100 | 0x800 | 0x1000  # AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT, AT_EMPTY_PATH
_STATX_BYTES = 256
_STATX_MNT_ID_OFFSET = 144

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)
_statx = getattr(_libc, "statx", None)
# A file system that lacks the flag says EINVAL, an older kernel ENOSYS, a container's older filter EPERM.
_RENAMEAT2_LACKING = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
_STATX_LACKING = frozenset({errno.ENOSYS, errno.EPERM})


def mount_id(dir_fd: int, name: bytes = b"") -> int | None:
    """Return the id of the mount that `name` in `dir_fd`, or `dir_fd` itself, is seen through.

    A bind mount shares its device number with the file system around it; only this id tells it apart.

    Returns:
        None where the system does not tell (Linux before 5.8, other systems).

    Raises:
        OSError: as `os.stat` would.
    """
    if _statx is None:
        return None
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if _statx(dir_fd, name, _STATX_FLAGS, _STATX_MNT_ID, answer) != 0:
        code = ctypes.get_errno()
        if code in _STATX_LACKING:
            return None
        raise OSError(code, os.strerror(code), os.fsdecode(name))
    filled = struct.unpack_from("=I", answer)[0]
    if not filled & _STATX_MNT_ID:
        return None
    return int(struct.unpack_from("=Q", answer, _STATX_MNT_ID_OFFSET)[0])


def rename_noreplace(source_fd: int, source: bytes, target_fd: int, target: bytes) -> None:
    """Rename `source` in `source_fd` to `target` in `target_fd`, which must not exist.

    Where the kernel cannot do both in one step, a directory is checked for, then renamed (that replaces at most
    an empty directory that appeared in between, never a file), and a file is linked, then unlinked, so that
    nothing is ever replaced; a crash in between leaves two names of one file.

    Raises:
        FileExistsError: there is something at `target`.
        OSError: as `os.rename` would.
    """
    if _renameat2 is not None:
        if _renameat2(source_fd, source, target_fd, target, _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _RENAMEAT2_LACKING:
            raise OSError(code, os.strerror(code), os.fsdecode(source), None, os.fsdecode(target))
    _rename_in_steps(source_fd, source, target_fd, target)


def _rename_in_steps(source_fd: int, source: bytes, target_fd: int, target: bytes) -> None:
    status = os.stat(source, dir_fd=source_fd, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        os.unlink(source, dir_fd=source_fd)
        return
    try:
        os.stat(target, dir_fd=target_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(target))

"""Where else a directory of a file system can be seen: bind mounts give it other names, and other directories above."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from quota.domain.mounts import Mount, parse_mounts

_MOUNTS = Path("/proc/self/mountinfo")


def mounts() -> list[Mount]:
    """List the mounts; none where the system does not tell."""
    try:
        return parse_mounts(_MOUNTS.read_bytes())
    except OSError:
        return []


def seen_above(path: PurePosixPath, mount_id: int | None) -> Iterator[PurePosixPath]:
    """Yield the names by which the directories above `path`, in its own file system, can be seen; innermost first.

    Args:
        path: A directory, without symbolic links.
        mount_id: The mount that it is seen through.
    """
    known = mounts()
    through = next((mount for mount in known if mount.mount_id == mount_id), None)
    if through is None or not path.is_relative_to(through.point):
        return
    inside = PurePosixPath(through.root) / path.relative_to(through.point)
    for above in inside.parents:
        for mount in known:
            if mount.device == through.device and above.is_relative_to(mount.root):
                yield PurePosixPath(mount.point) / above.relative_to(mount.root)


def seen_at(path: PurePosixPath, mount_id: int | None) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
    """Yield where else a directory can be seen, or one below it, each with the path of that one below `path`.

    Args:
        path: A directory, without symbolic links.
        mount_id: The mount that it is seen through.
    """
    known = mounts()
    through = next((mount for mount in known if mount.mount_id == mount_id), None)
    if through is None or not path.is_relative_to(through.point):
        return
    inside = PurePosixPath(through.root) / path.relative_to(through.point)
    for mount in known:
        point, top = PurePosixPath(mount.point), PurePosixPath(mount.root)
        if mount.device != through.device:
            continue
        if inside.is_relative_to(top):
            yield point / inside.relative_to(top), PurePosixPath()
        elif top.is_relative_to(inside):
            yield point, top.relative_to(inside)

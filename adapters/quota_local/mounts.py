"""Where else a directory of a file system can be seen: bind mounts give it other names, and other directories above."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount, as this process sees it.

    Attributes:
        mount_id: Its number.
        device: The file system's numbers, as text.
        root: Which directory of the file system is mounted.
        point: Where.
    """

    mount_id: int
    device: str
    root: PurePosixPath
    point: PurePosixPath


def mounts() -> list[Mount]:
    """List the mounts; none where the system does not tell."""
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, _, device, root, point, *_ = line.split(" ")
        found.append(Mount(int(number), device, _unescaped(root), _unescaped(point)))
    return found


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
    inside = through.root / path.relative_to(through.point)
    for above in inside.parents:
        for mount in known:
            if mount.device == through.device and above.is_relative_to(mount.root):
                yield mount.point / above.relative_to(mount.root)


def _unescaped(text: str) -> PurePosixPath:
    r"""Read a name in which the kernel wrote blanks and backslashes as `\040`."""
    raw = os.fsencode(text)
    parts = raw.split(b"\\")
    decoded = parts[0] + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:])
    return PurePosixPath(os.fsdecode(decoded))

"""Reading Linux's table of mounts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount, as this process sees it. Names are as the file system has them, what is no UTF-8 escaped as Python does.

    Attributes:
        mount_id: Its number.
        device: The file system's numbers, as text.
        root: Which directory of the file system is mounted.
        point: Where.
        kind: The type of the file system.
    """

    mount_id: int
    device: str
    root: str
    point: str
    kind: str


def parse_mounts(table: bytes) -> list[Mount]:
    """Take `/proc/self/mountinfo` apart; of two mounts at one point the later one hides the other."""
    found = []
    for line in table.splitlines():
        before, _, after = line.partition(b" - ")
        number, _, device, root, point, *_ = before.split(b" ")
        kind = after.split(b" ")[0].decode("ascii", "surrogateescape")
        found.append(Mount(int(number), device.decode(), _unescaped(root), _unescaped(point), kind))
    return found


def _unescaped(raw: bytes) -> str:
    r"""Read a name in which the kernel wrote blanks and backslashes as `\040`."""
    first, *parts = raw.split(b"\\")
    decoded = first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts)
    return decoded.decode(errors="surrogateescape")

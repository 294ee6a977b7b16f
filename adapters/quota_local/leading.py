"""Where in the store a symbolic link leads, by whatever name of the store: it is followed as the kernel would."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from quota_local.boundary import Boundary
from quota_local.mounts import seen_at
from quota_local.roots import OpenRoot

_MOST_LINKS = 40
# What is no link, or what is not there: then the rest of the way is what is written.
_NO_LINK = frozenset({errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class Leads:
    """Follows links by what is written in them, and opens nothing.

    Args:
        root: The store's root.
    """

    def __init__(self, root: OpenRoot) -> None:
        self._top = root.spellings[0]
        self._names = [(spelling, b"") for spelling in root.spellings]
        self._names += _mounted_names(root.spellings[0], root.boundary)

    def of(self, path: bytes) -> tuple[bytes, ...]:
        """Return all in the store that following a link needs: where it ends, and each further link on the way.

        Args:
            path: The link, relative to the root, without links on the way to it.

        Returns:
            Paths relative to the root. Of a link that leads past a place where this process may not look, that is the
            root: it may lead to anything in the store.
        """
        return tuple({inside for met in self._met(path) for inside in self._insides(met)})

    def _met(self, path: bytes) -> Iterator[bytes]:
        place, name = posixpath.split(posixpath.join(self._top, path))
        ahead, links = [name], 0
        while ahead:
            name = ahead.pop()
            if name in {b"", b".", b".."}:
                place = posixpath.dirname(place) if name == b".." else place
                continue
            here = posixpath.join(place, name)
            try:
                written = os.fsencode(Path(os.fsdecode(here)).readlink())
            except OSError as error:
                if error.errno not in _NO_LINK:
                    yield self._top
                    return
                place = here
                continue
            if links:
                yield here
            links += 1
            if links > _MOST_LINKS:
                return
            place = b"/" if written.startswith(b"/") else place
            ahead.extend(reversed(written.split(b"/")))
        yield place

    def _insides(self, place: bytes) -> Iterator[bytes]:
        for name, inside in self._names:
            if place == name:
                yield inside
            elif place.startswith(name + b"/"):
                yield posixpath.join(inside, place[len(name) + 1 :])


def _mounted_names(top: bytes, boundary: Boundary) -> Iterator[tuple[bytes, bytes]]:
    """Yield by which other names the store or a part of it is mounted, and which part that is."""
    for name, inside in seen_at(PurePosixPath(os.fsdecode(top)), boundary.mount):
        yield os.fsencode(name), b"" if inside == PurePosixPath() else os.fsencode(inside)

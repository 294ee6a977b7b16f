"""Which names lead to one place: through symbolic links, or to directories that are mounted twice."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from quota.domain.locations import file_location, parse_location
from quota_local.boundary import Identity, identity

_MOST_LINKS = 40
# Where this process may not look, a link may lead to what it could reach by another name.
_LEADS_NOWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class Places:
    """Follows names, and remembers by which path each directory was met first."""

    def __init__(self) -> None:
        self._met: dict[Identity, Path] = {}
        self._named: dict[Path, Path] = {}

    def of(self, uri: str) -> str:
        """Return the one name of the place that a `file` URI leads to.

        Raises:
            OSError: a directory on the way cannot be looked at.
        """
        spelled = Path("/", *(os.fsdecode(component) for component in parse_location(uri).components))
        return file_location(os.fsencode(self._one_name(Path(os.path.realpath(spelled))))).uri

    def on_the_way(self, link: Path) -> Iterator[str]:
        """Return the one names of all that following a link needs: where it ends, and each further link on the way.

        Raises:
            OSError: a directory on the way cannot be looked at.
        """
        place = Path(os.path.realpath(link.parent))
        ahead, links = [link.name], 0
        while ahead:
            name = ahead.pop()
            if name in {"", ".", ".."}:
                place = place.parent if name == ".." else place
                continue
            target = _target_of(place / name)
            if target is None:
                place /= name
                continue
            yield file_location(os.fsencode(self._one_name(place) / name)).uri
            links += 1
            if links == _MOST_LINKS:
                return
            place = Path("/") if target.startswith("/") else place
            ahead.extend(reversed(target.split("/")))
        yield file_location(os.fsencode(self._one_name(place))).uri

    def _one_name(self, path: Path) -> Path:
        """Name a path without links. The directory that it lies in is looked at once."""
        parent = path.parent
        if parent == path:
            return path
        if parent not in self._named:
            self._named[parent] = self._one_name(parent)
        named = self._named[parent] / path.name
        try:
            status = path.stat()
        except OSError as error:
            if error.errno not in _LEADS_NOWHERE:
                raise
            return named
        # A file may have several names (hard links), and taking one of them away leaves it under the others.
        return self._first_name(identity(status), named) if stat.S_ISDIR(status.st_mode) else named

    def _first_name(self, directory: Identity, named: Path) -> Path:
        """Return by which path a directory was met first, if it still is there: a number is used again once it is free.

        Trials replace whole directories while a sweep goes on.
        """
        met = self._met.get(directory)
        if met is not None and met != named and _identity_of(met) != directory:
            met = None
        if met is None:
            self._met[directory] = met = named
        return met


def _target_of(path: Path) -> str | None:
    """Return what is written in a link; None of what is none, or is not there."""
    try:
        return os.fspath(path.readlink())
    except OSError as error:
        if error.errno == errno.EINVAL or error.errno in _LEADS_NOWHERE:
            return None
        raise


def _identity_of(path: Path) -> Identity | None:
    try:
        return identity(path.stat())
    except OSError:
        return None

"""A store's root: found once, and recognised each time it is opened again."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from quota.domain.identifiers import TRASH_NAME
from quota.domain.locations import Location, parse_location
from quota.errors import PathRefused, StoreError
from quota_local.boundary import Boundary, Identity, identity, status_or_none
from quota_local.failures import failures_named
from quota_local.kernel import mount_id
from quota_local.way import DIRECTORY_FLAGS

SCHEME = "file"


@dataclass(frozen=True, slots=True)
class OpenRoot:
    """A root that is open for one task.

    Attributes:
        fd: Its directory.
        boundary: Where the store ends, as of now.
        spellings: Its path as the operator wrote it, and what that really is.
    """

    fd: int
    boundary: Boundary
    spellings: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The directory below which a store may delete.

    Attributes:
        location: As the operator wrote it; checkpoints are named below this spelling.
        path: Where it really is: symbolic links in the operator's spelling are followed once, on creation.
        seen: The directory that `path` meant then.
        sacred: Directories that no checkpoint may be or hold, and what they are.
        spared: Likewise files, which may come and go, by their paths.
    """

    location: Location
    path: Path
    seen: Identity
    sacred: Mapping[Identity, str]
    spared: Mapping[Path, str] = field(default_factory=dict)

    @classmethod
    def find(cls, root_uri: str) -> Root:
        """Find the directory that `root_uri` names.

        Raises:
            PathRefused: it is no absolute `file` URI, does not exist, is no directory, is `/` or a home directory.
            StoreError: it cannot be looked at.
        """
        subject = "store"
        try:
            location = parse_location(root_uri)
        except ValueError as error:
            raise PathRefused(subject, "uri", root_uri, str(error)) from error
        if location.scheme != SCHEME:
            raise PathRefused(subject, "uri", root_uri, "a local store's URI begins with file:///")
        path = Path("/", *(os.fsdecode(component) for component in location.components))
        with failures_named(root_uri, "open the root"):
            try:
                resolved = path.resolve(strict=True)
                status = resolved.stat()
            except (FileNotFoundError, NotADirectoryError, RuntimeError) as error:
                reason = "there is no such directory; create it, or mount it"
                raise PathRefused(subject, "uri", root_uri, reason) from error
        if not resolved.is_dir():
            raise PathRefused(subject, "uri", root_uri, "it is no directory; a store's root is one")
        sacred = _sacred_directories()
        what = sacred.get(identity(status))
        if what is not None:
            raise PathRefused(subject, "uri", root_uri, f"it is {what}; use a directory made for checkpoints")
        return cls(location=location, path=resolved, seen=identity(status), sacred=sacred)

    def locate(self, uri: str) -> tuple[bytes, ...]:
        """Return the components of the checkpoint's path below the root.

        Raises:
            PathRefused: `uri` is not strictly below the root, or no location at all.
        """
        try:
            location = parse_location(uri)
        except ValueError as error:
            raise PathRefused("checkpoint", "uri", uri, str(error)) from error
        depth = len(self.location.components)
        if not self.location.contains(location) or len(location.components) == depth:
            reason = f"it is not strictly below the root {self.location.uri} of this store, as written there"
            raise PathRefused("checkpoint", "uri", uri, reason)
        return location.components[depth:]

    @contextmanager
    def opened(self) -> Iterator[OpenRoot]:
        """Open the root for one task.

        It is not kept open in between, which would keep its disk from being unmounted.

        Raises:
            StoreError: another directory is there now, e.g. the bare mount point of a disk that went away.
            OSError: it cannot be opened, or a file that is to be spared cannot be looked at.
        """
        fd = os.open(self.path, DIRECTORY_FLAGS)
        try:
            status = os.fstat(fd)
            if identity(status) != self.seen:
                message = "is another directory than when the store was opened; is its disk mounted? If this"
                raise StoreError(f"store {self.location.uri}: its root {message} is meant, open the store anew")
            trash = status_or_none(fd, TRASH_NAME.encode())
            boundary = Boundary(
                device=status.st_dev,
                mount=mount_id(fd),
                trash=None if trash is None else identity(trash),
                sacred={**self.sacred, **_present(self.spared)},
            )
            written = b"/" + b"/".join(self.location.components)
            yield OpenRoot(fd, boundary, (os.fsencode(self.path), written))
        finally:
            os.close(fd)


def _sacred_directories() -> dict[Identity, str]:
    found: dict[Identity, str] = {}
    homes = {entry.pw_dir for entry in pwd.getpwall()} | {os.environ.get("HOME", "")}
    named = {home: f"the home directory {home}" for home in homes if home.startswith("/")}
    for path, what in {**named, "/": "the root of the file system"}.items():
        try:
            found[identity(Path(path).stat())] = what
        except OSError:
            # Accounts of services often name a home that does not exist; nothing can lie there.
            continue
    return found


def _present(files: Mapping[Path, str]) -> dict[Identity, str]:
    found: dict[Identity, str] = {}
    for path, what in files.items():
        for look in (os.lstat, os.stat):
            with suppress(FileNotFoundError, NotADirectoryError):
                found[identity(look(path))] = what
    return found

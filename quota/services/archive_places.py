"""Where archives lie: a directory, or a prefix in a bucket, written so that a half one has no manifest and no name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from errno import EEXIST, ENOTEMPTY
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

from quota.domain.locations import Location, location_problem, parse_location
from quota.errors import ArchiveRefused, SettingsRefused
from quota.services.archive_buckets import bucket_file_system
from quota.services.archive_manifest import MANIFEST
from quota.services.whole_files import sync_directory


class Draft(Protocol):
    """An archive that is being written."""

    def file(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Give a file to write to."""
        ...


class ArchivePlace(Protocol):
    """Where one archive lies, or is to lie.

    Attributes:
        uri: The place.
    """

    @property
    def uri(self) -> str: ...  # noqa: D102

    def is_there(self) -> bool:
        """Tell whether there is a whole archive."""
        ...

    def drafted(self) -> AbstractContextManager[Draft]:
        """Write an archive, its manifest last; it is there once the block has ended, and outlasts a power cut."""
        ...

    def opened(self, name: str) -> AbstractContextManager[Any]:
        """Open a file of it for reading, as pyarrow does."""
        ...


def place_at(uri: str) -> ArchivePlace:
    """Return the place that a URI names.

    Raises:
        SettingsRefused: it names none, or archives cannot lie there.
    """
    problem = location_problem(uri)
    if problem is not None:
        raise SettingsRefused("archive", "uri", uri, problem)
    location = parse_location(uri)
    if location.scheme == "file":
        return _Directory(location)
    if location.scheme == "s3":
        return _Prefix(location)
    raise SettingsRefused("archive", "uri", uri, "archives lie in a directory (file:///…) or a bucket (s3://bucket/…/)")


def uri_below(destination: str, name: str) -> str:
    """Return the URI of an archive in a directory, or below a prefix.

    Raises:
        SettingsRefused: the destination is none.
    """
    problem = location_problem(destination)
    if problem is not None:
        raise SettingsRefused("archive", "to", destination, problem)
    root = parse_location(destination)
    components = (*root.components, name.encode())
    return Location(root.scheme, root.authority, components, is_prefix=root.scheme != "file").uri


@contextmanager
def _translated(uri: str, name: str) -> Iterator[None]:
    """Say which file of which archive cannot be written or read.

    Raises:
        ArchiveRefused: that is so.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ArchiveRefused(f"archive {uri}: file {name}: there is none") from error
    except OSError as error:
        raise ArchiveRefused(f"archive {uri}: file {name}: {error.strerror or error}") from error


class _Directory:
    def __init__(self, location: Location) -> None:
        self.uri = location.uri
        self._path = Path("/", *(os.fsdecode(component) for component in location.components))

    def is_there(self) -> bool:
        return (self._path / MANIFEST).exists()

    @contextmanager
    def drafted(self) -> Iterator[Draft]:
        beside = self._path.with_name(f".{self._path.name}.{uuid4().hex[:8]}")
        with _translated(self.uri, "(directory)"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.mkdir()
        try:
            yield _DirectoryDraft(self.uri, beside)
            with _translated(self.uri, "(directory)"):
                sync_directory(beside)
                self._publish(beside)
                sync_directory(self._path.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _publish(self, beside: Path) -> None:
        try:
            beside.rename(self._path)
        except OSError as error:
            # Somebody else has written the same one meanwhile, which is read back now as our own would be.
            if error.errno not in {EEXIST, ENOTEMPTY} or not self.is_there():
                raise

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        from pyarrow import fs  # noqa: PLC0415 - an extra

        with _translated(self.uri, name), fs.LocalFileSystem().open_input_file(str(self._path / name)) as stream:
            yield stream


class _DirectoryDraft:
    def __init__(self, uri: str, path: Path) -> None:
        self._uri = uri
        self._path = path

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        with _translated(self._uri, name), (self._path / name).open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())


class _Prefix:
    """Of an archive in a bucket, the manifest is written last: without it there is none."""

    def __init__(self, location: Location) -> None:
        self.uri = location.uri
        self._bucket = location.authority
        self._path = "/".join([self._bucket, *(component.decode() for component in location.components)])

    def is_there(self) -> bool:
        from pyarrow import fs  # noqa: PLC0415 - an extra

        with _translated(self.uri, MANIFEST):
            info = bucket_file_system(self._bucket).get_file_info(f"{self._path}/{MANIFEST}")
        return bool(info.type == fs.FileType.File)

    @contextmanager
    def drafted(self) -> Iterator[Draft]:
        yield self

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        files = bucket_file_system(self._bucket)
        with _translated(self.uri, name), files.open_output_stream(f"{self._path}/{name}") as stream:
            yield stream

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        files = bucket_file_system(self._bucket)
        with _translated(self.uri, name), files.open_input_file(f"{self._path}/{name}") as stream:
            yield stream

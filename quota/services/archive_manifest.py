"""What an archive says of itself: which files it has, and where the chain of its events ends."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, ClassVar
from urllib.parse import quote

import msgspec

from quota.errors import ArchiveRefused

FORMAT = 1
MANIFEST = "manifest.json"
EVENTS_FILE = "events.parquet"

_MOST_NAME_BYTES = 180
_PLAIN = "!$&'()+,;=@-._~ "

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class ArchivedHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The end of the chain.

    Attributes:
        position: Position of the last event.
        hash: Its hash, in hexadecimal.
    """

    position: Annotated[int, msgspec.Meta(ge=1)]
    hash: _Digest


class ArchivedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the archive.

    Attributes:
        name: Its name.
        rows: How many rows it has.
        bytes: Its size.
        sha256: Its digest, in hexadecimal.
    """

    name: Annotated[str, msgspec.Meta(pattern="^[a-z_]+\\.parquet$")]
    rows: _Count
    bytes: _Count
    sha256: _Digest


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. Two archives of the same events by the same software are the same, byte by byte.

    Attributes:
        format: Which files there are, and what they hold.
        software_version: By which version of the software it was written.
        experiment_id: Whose events.
        head: Where their chain ends.
        files: The other files.
    """

    NAME: ClassVar[str] = MANIFEST

    format: int
    software_version: str
    experiment_id: str
    head: ArchivedHead
    files: tuple[ArchivedFile, ...]

    @property
    def text(self) -> bytes:
        """The manifest as it is written."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @property
    def sha256(self) -> str:
        """The digest of that."""
        return sha256(self.text).hexdigest()


def parse_manifest(text: bytes, uri: str) -> Manifest:
    """Read a manifest.

    Raises:
        ArchiveRefused: it is none, or of a format that this software does not know.
    """
    try:
        number = msgspec.json.decode(text, type=_Format).format
        if number != FORMAT:
            reason = f"it is of format {number}, and this software reads {FORMAT}; upgrade it"
            raise ArchiveRefused(f"archive {uri}: file {MANIFEST}: {reason}")
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArchiveRefused(f"archive {uri}: file {MANIFEST}: it is no manifest: {error}") from error
    if EVENTS_FILE not in {file.name for file in manifest.files} or manifest.text != text:
        raise ArchiveRefused(f"archive {uri}: file {MANIFEST}: it is not as this software writes it")
    return manifest


class _Format(msgspec.Struct):
    format: int


def archive_name(experiment_id: str, position: int) -> str:
    """Return how an archive of an experiment's first so many events is named."""
    name = quote(experiment_id, safe=_PLAIN)
    if len(name) > _MOST_NAME_BYTES:
        name = f"{name[:_MOST_NAME_BYTES]}-{sha256(experiment_id.encode()).hexdigest()[:16]}"
    return f"{name}-{position}"

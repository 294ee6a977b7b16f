"""Where the trials of the crash tests write: a local disk, or a bucket on a real server."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from quota.domain.events import EvictionDecided
    from s3_servers import Kind, S3Server

Content = dict[str, Any]
CANARIES = ("canary", "trial-1-not-ours", "trial-")
NOT_OURS = "not ours"
LEAST_BYTES, MOST_BYTES = 96, 160
_FILE = "weights"


class Medium(Protocol):
    """What trials do to their disk, past the store."""

    @property
    def root_uri(self) -> str:
        """The store's root."""
        ...

    def prepare(self) -> None:
        """Make the root, and lay down what must never be touched."""
        ...

    def uri(self, trial_id: str, place: str) -> str:
        """Name one of a trial's places."""
        ...

    def write(self, uri: str, content: Content) -> None:
        """Write a checkpoint so that it is whole at any moment; it has `size_of(uri)` bytes."""
        ...

    def read(self, uri: str) -> Content | None:
        """Return what was written at a place; None where there is nothing."""
        ...

    def lose(self, uri: str) -> None:
        """Take away what lies at a place, behind everybody's back."""
        ...

    def tidy(self, uri: str) -> None:
        """Remove what a place lies in, if nothing lies in it."""
        ...

    def begin_upload(self, uri: str) -> None:
        """Leave an unfinished upload below a place, where there is such a thing."""
        ...

    def sizes(self) -> dict[str, int]:
        """List what lies at all places, and how many bytes it has."""
        ...

    def size_in_trash(self, decided: EvictionDecided) -> int:
        """Return how many bytes the trash holds of what a decision has evicted."""
        ...

    def touched_canaries(self) -> list[str]:
        """Return what is not as it was laid down."""
        ...


def size_of(uri: str) -> int:
    """Return the size of whatever is written to a place: different ones differ, and one that is rewritten does not."""
    name = "/".join(uri.rstrip("/").split("/")[-2:])
    return LEAST_BYTES + crc32(name.encode()) % (MOST_BYTES - LEAST_BYTES)


def _text(uri: str, content: Content) -> str:
    text = json.dumps(content)
    assert len(text) <= LEAST_BYTES
    return text.ljust(size_of(uri))


@dataclass
class LocalMedium:
    """A directory."""

    root: Path

    @property
    def root_uri(self) -> str:
        return self.root.as_uri()

    def prepare(self) -> None:
        self.root.mkdir()
        for name in CANARIES:
            (self.root / name).write_text(NOT_OURS)

    def uri(self, trial_id: str, place: str) -> str:
        return (self.root / f"trial-{trial_id}" / place).as_uri()

    def write(self, uri: str, content: Content) -> None:
        place = _path(uri)
        place.mkdir(parents=True, exist_ok=True)
        fresh = self.root / f".new-{content['number']}"
        fresh.write_text(_text(uri, content))
        fresh.replace(place / _FILE)

    def read(self, uri: str) -> Content | None:
        try:
            found: Content = json.loads((_path(uri) / _FILE).read_text())
        except FileNotFoundError:
            return None
        return found

    def lose(self, uri: str) -> None:
        shutil.rmtree(_path(uri))

    def tidy(self, uri: str) -> None:
        with suppress(OSError):
            _path(uri).parent.rmdir()

    def begin_upload(self, uri: str) -> None:
        """Do nothing: what is written in part is a file like others."""

    def sizes(self) -> dict[str, int]:
        return {file.parent.as_uri(): file.stat().st_size for file in self.root.glob(f"trial-*/*/{_FILE}")}

    def size_in_trash(self, decided: EvictionDecided) -> int:
        found = (self.root / ".trash" / decided.decision_id).rglob("*")
        return sum(file.stat().st_size for file in found if file.is_file())

    def touched_canaries(self) -> list[str]:
        return [name for name in CANARIES if (self.root / name).read_text() != NOT_OURS]


@dataclass
class S3Medium:
    """A prefix in a bucket."""

    server: S3Server
    kind: Kind
    bucket: str
    prefix: str

    @cached_property
    def client(self) -> S3Client:
        """What all requests of trials go through. Once it was used, a process that is forked may not use it."""
        return self.server.new_client()

    @property
    def root_uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def prepare(self) -> None:
        for name in CANARIES:
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=NOT_OURS.encode())

    def uri(self, trial_id: str, place: str) -> str:
        return f"{self.root_uri}trial-{trial_id}/{place}/"

    def write(self, uri: str, content: Content) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self._key(uri), Body=_text(uri, content).encode())

    def read(self, uri: str) -> Content | None:
        text = self._read(self._key(uri))
        return None if text is None else json.loads(text)

    def lose(self, uri: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=self._key(uri))

    def tidy(self, uri: str) -> None:
        """Do nothing: prefixes do not lie in each other."""

    def begin_upload(self, uri: str) -> None:
        self.client.create_multipart_upload(Bucket=self.bucket, Key=f"{self._key(uri)}.part")

    def sizes(self) -> dict[str, int]:
        listed = self._listed(f"{self.prefix}trial-")
        whole = {key.removesuffix(_FILE): size for key, size in listed.items() if key.endswith(f"/{_FILE}")}
        return {f"s3://{self.bucket}/{place}": size for place, size in whole.items()}

    def size_in_trash(self, decided: EvictionDecided) -> int:
        if self.kind == "unversioned":
            return sum(self._listed(f"{self.prefix}.trash/{decided.decision_id}.d/").values())
        named = {entry.version for entry in decided.manifest.entries}
        place = decided.uri.removeprefix(f"s3://{self.bucket}/")
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=place)
        versions = [version for page in pages for version in page.get("Versions", [])]
        # What is hidden is still there, below a delete marker or something later.
        return sum(
            version.get("Size", 0)
            for version in versions
            if version.get("VersionId") in named and not version.get("IsLatest")
        )

    def touched_canaries(self) -> list[str]:
        return [name for name in CANARIES if self._read(self.prefix + name) != NOT_OURS]

    def _key(self, uri: str) -> str:
        return f"{uri.removeprefix(f's3://{self.bucket}/')}{_FILE}"

    def _listed(self, prefix: str) -> dict[str, int]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {one.get("Key", ""): one.get("Size", 0) for page in pages for one in page.get("Contents", [])}

    def _read(self, key: str) -> str | None:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise


def _path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))

"""Where the trials of the crash tests write: a local disk, or a bucket on a real server."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from s3_servers import S3Server

Content = dict[str, Any]
CANARIES = ("canary", "trial-1-not-ours", "trial-")
NOT_OURS = "not ours"


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
        """Write a checkpoint so that it is whole at any moment."""
        ...

    def read(self, uri: str) -> Content | None:
        """Return what was written at a place; None where there is nothing."""
        ...

    def lose(self, uri: str) -> None:
        """Take away what lies at a place, behind everybody's back."""
        ...

    def touched_canaries(self) -> list[str]:
        """Return what is not as it was laid down."""
        ...


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
        fresh.write_text(json.dumps(content))
        fresh.replace(place / "weights")

    def read(self, uri: str) -> Content | None:
        try:
            found: Content = json.loads((_path(uri) / "weights").read_text())
        except FileNotFoundError:
            return None
        return found

    def lose(self, uri: str) -> None:
        shutil.rmtree(_path(uri), ignore_errors=True)

    def touched_canaries(self) -> list[str]:
        return [name for name in CANARIES if (self.root / name).read_text() != NOT_OURS]


@dataclass
class S3Medium:
    """A prefix in a bucket."""

    server: S3Server
    bucket: str
    prefix: str
    _clients: dict[int, S3Client] = field(default_factory=dict)

    @property
    def _client(self) -> S3Client:
        """A client of this process: one that a fork inherited would share its connections with its parent."""
        pid = os.getpid()
        if pid not in self._clients:
            self._clients[pid] = self.server.new_client()
        return self._clients[pid]

    @property
    def root_uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def prepare(self) -> None:
        for name in CANARIES:
            self._client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=NOT_OURS.encode())

    def uri(self, trial_id: str, place: str) -> str:
        return f"{self.root_uri}trial-{trial_id}/{place}/"

    def write(self, uri: str, content: Content) -> None:
        self._client.put_object(Bucket=self.bucket, Key=self._key(uri), Body=json.dumps(content).encode())

    def read(self, uri: str) -> Content | None:
        return self._read(self._key(uri))

    def lose(self, uri: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=self._key(uri))

    def touched_canaries(self) -> list[str]:
        return [name for name in CANARIES if self._text(self.prefix + name) != NOT_OURS]

    def _key(self, uri: str) -> str:
        return f"{uri.removeprefix(f's3://{self.bucket}/')}weights"

    def _read(self, key: str) -> Content | None:
        text = self._text(key)
        return None if text is None else json.loads(text)

    def _text(self, key: str) -> str | None:
        try:
            return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise


def _path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))

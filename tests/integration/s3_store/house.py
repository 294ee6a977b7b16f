"""What the tests of the S3 store share: a store with one checkpoint, neighbours, and servers that fail to order."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, cast

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from quota_s3 import S3Store, open_store
from quota_s3.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from botocore.awsrequest import AWSRequest
    from mypy_boto3_s3 import S3Client

    from quota.domain.manifest import Manifest
    from s3_servers import Kind

CLAIM = "019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10"
OTHER_CLAIM = "019953f2-5d6c-7c3e-8a41-0b6f9d2e7a11"
FILES = {"model.pt": b"weights", "sub/": b"", "sub/state 1.bin": b"state"}
NEIGHBOURS = (
    "experiment/trial-10/model.pt",
    "experiment/trial-1.txt",
    ".trash/.store",
    f".trash/{CLAIM}0",
    f".trash/{CLAIM}0.d/model.pt",
)
MOST_KEYS = 1_000


class Crash(BaseException):
    """Stands for the death of the process: no handler of errors sees it."""


@dataclass
class House:
    client: S3Client
    bucket: str
    kind: Kind
    top: str = field(default_factory=lambda: f"{uuid.uuid4().hex}/")

    @property
    def root(self) -> str:
        return f"{self.top}hpo/"

    @property
    def prefix(self) -> str:
        return f"{self.root}experiment/trial-1/"

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def __post_init__(self) -> None:
        self.store = self.opened()
        self.fill(FILES)
        for name in NEIGHBOURS:
            self.client.put_object(Bucket=self.bucket, Key=self.root + name, Body=b"canary")
        self.client.put_object(Bucket=self.bucket, Key=f"{self.top}hpo-2/experiment/trial-1/model.pt", Body=b"canary")
        self.neighbours = self.beside()

    def opened(self) -> S3Store:
        return open_store(f"s3://{self.bucket}/{self.root}")

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=content)

    def fill(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            self.put(name, content)

    def files(self) -> dict[str, bytes]:
        keys = [item.key for item in Bucket(self.bucket, self.client).objects(self.prefix)]
        return {key.removeprefix(self.prefix): self._content(key) for key in keys}

    def _content(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def evict(self) -> Manifest:
        manifest = self.store.manifest(self.uri)
        self.store.trash(self.uri, CLAIM, manifest)
        return manifest

    def beside(self) -> set[tuple[str, str | None, str]]:
        """All there is besides the checkpoint, its claim, and what is known of its restores: each version of it."""
        own = (self.prefix, f"{self.root}.trash/{CLAIM}.d/", f"{self.root}.trash/.restored/")
        return {
            entry
            for entry in self.everything(self.top)
            if not entry[0].startswith(own) and entry[0] not in self._claim_keys
        }

    def everything(self, prefix: str) -> set[tuple[str, str | None, str]]:
        """Every version and delete marker below `prefix`."""
        bucket = Bucket(self.bucket, self.client)
        if self.kind == "unversioned":
            return {(item.key, None, item.etag) for item in bucket.objects(prefix)}
        found: set[tuple[str, str | None, str]] = set()
        for key, history in bucket.histories(prefix).items():
            found |= {(key, item.version_id, item.etag) for item in history.versions}
            found |= {(key, marker, "marker") for marker in history.markers}
        return found

    def in_trash(self) -> set[tuple[str, str | None, str]]:
        """What there is of the claim in the trash, earlier versions included."""
        key = f"{self.root}.trash/{CLAIM}"
        return {
            entry for entry in self.everything(key) if entry[0] in self._claim_keys or entry[0].startswith(f"{key}.d/")
        }

    @property
    def _claim_keys(self) -> tuple[str, str]:
        return f"{self.root}.trash/{CLAIM}", f"{self.root}.trash/{CLAIM}.restoring"


def client_of(store: S3Store) -> S3Client:
    """Return the client by which a store makes its requests."""
    return store._bucket.client  # noqa: SLF001 - where a test listens in


@contextmanager
def listening(store: S3Store, event: str, handler: Callable[..., object]) -> Iterator[None]:
    """Let `handler` be called at an event of botocore's, e.g. `before-send.s3.DeleteObjects`."""
    name = f"test-{uuid.uuid4().hex}"
    events = client_of(store).meta.events
    # What a handler of `before-send` returns is taken for the answer, which the types do not say.
    events.register_first(event, cast("Callable[..., None]", handler), unique_id=name)
    try:
        yield
    finally:
        events.unregister(event, unique_id=name)


class CrashAt:
    """Dies right before the n-th request is sent, and at each one after that."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.crashed = False
        self._lock = threading.Lock()

    def __call__(self, **_: object) -> None:
        with self._lock:
            if self.left == 0:
                self.crashed = True
                raise Crash
            self.left -= 1


def once(act: Callable[[], object]) -> tuple[Callable[..., None], list[Callable[[], object]]]:
    """Return a handler that does `act` the first time it is called, and what is still to be done."""
    todo = [act]

    def handler(**_: object) -> None:
        if todo:
            todo.pop()()

    return handler, todo


class _Raw(BytesIO):
    def stream(self) -> Iterator[bytes]:
        yield self.read()


def answer(status: int, body: str, headers: Mapping[str, str] | None = None) -> Callable[..., AWSResponse]:
    """Return a handler of `before-send` that answers in place of the server."""

    def handler(request: AWSRequest, **_: object) -> AWSResponse:
        said = HTTPHeaders.from_dict(headers or {})
        return AWSResponse(str(request.url), status, said, _Raw(body.encode()))

    return handler


def error(status: int, code: str, message: str = "said the server") -> Callable[..., AWSResponse]:
    """Return a handler of `before-send` that answers with an error."""
    return answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")

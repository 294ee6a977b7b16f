"""The requests that the store makes of one bucket, each with the errors of the port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from botocore.exceptions import ClientError

from quota.errors import StoreError, shown
from quota_s3.failures import code_of, failures_named, not_s3s
from quota_s3.objects import History, Item, Marker, latest_count

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PAGE = 1_000
"""Most keys that any request names or asks for."""
Versioning = Literal["Enabled", "Suspended", "off"]
_NOTHING = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion"})
_NOT_IMPLEMENTED = frozenset({"NotImplemented", "501"})
_NOT_THE_SAME = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})


@dataclass(frozen=True, slots=True)
class Stored:
    """A small object with its content.

    Attributes:
        body: The content.
        item: All else.
    """

    body: bytes
    item: Item


class _Page(msgspec.Struct, frozen=True, rename="pascal"):
    """What every page of a listing says of itself. One that does not is something else, and no empty listing."""

    is_truncated: bool


class _Written(msgspec.Struct, frozen=True):
    etag: str = msgspec.field(name="ETag")


class _Read(msgspec.Struct, frozen=True, rename="pascal"):
    last_modified: datetime
    etag: str = msgspec.field(name="ETag")


class _LookedAt(_Read, frozen=True, rename="pascal"):
    content_length: int


class _ListedMarker(msgspec.Struct, frozen=True, rename="pascal"):
    key: str
    version_id: str
    is_latest: bool


class _Listed(msgspec.Struct, frozen=True, rename="pascal"):
    key: str
    size: int
    last_modified: datetime
    etag: str = msgspec.field(name="ETag")


class _ListedVersion(_Listed, frozen=True, rename="pascal"):
    version_id: str
    is_latest: bool


_Told = TypeVar("_Told", bound=msgspec.Struct)


def told(bucket: str, key: str, answer: object, kind: type[_Told]) -> _Told:
    """Return a part of a server's answer, provided that nothing is missing that the store relies on.

    Args:
        bucket: Which bucket was asked about.
        key: Which key in it, or what keys begin with.
        answer: The part.
        kind: What it must be.

    Raises:
        StoreError: something is missing, or is of another type.
    """
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise not_s3s(bucket, key, error) from error


class Bucket:
    """A bucket, as far as the store needs it.

    Args:
        name: Its name.
        client: By what it is reached.
    """

    def __init__(self, name: str, client: S3Client) -> None:
        self.name = name
        self.client = client

    def supports(self, operation: str, parameter: str) -> bool:
        """Tell whether the botocore that is installed knows a parameter; older ones lack some conditions."""
        shape = self.client.meta.service_model.operation_model(operation).input_shape
        return shape is not None and parameter in shape.members

    def versioning(self) -> Versioning:
        """Tell whether the bucket keeps versions. A server without versioning keeps none.

        Raises:
            StoreError: it does not tell.
        """
        with failures_named(self.name, "", "ask whether it keeps versions (s3:GetBucketVersioning)"):
            try:
                answer = self.client.get_bucket_versioning(Bucket=self.name)
            except ClientError as error:
                if code_of(error) in _NOT_IMPLEMENTED:
                    return "off"
                raise
        # A bucket that never kept versions has no status.
        return answer.get("Status", "off")

    def objects(self, prefix: str) -> Iterator[Item]:
        """List the objects whose keys begin with `prefix`.

        Raises:
            StoreError: they cannot be listed.
        """
        with failures_named(self.name, prefix, "list what begins so (s3:ListBucket)"):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix, PaginationConfig={"PageSize": PAGE}
            )
            for page in pages:
                told(self.name, prefix, page, _Page)
                for found in page.get("Contents", []):
                    yield _item(prefix, told(self.name, prefix, found, _Listed))

    def names(self, prefix: str) -> Iterator[str]:
        """List the keys that begin with `prefix` and have no `/` after it, without the prefix.

        Raises:
            StoreError: they cannot be listed.
        """
        with failures_named(self.name, prefix, "list what begins so (s3:ListBucket)"):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix, Delimiter="/", PaginationConfig={"PageSize": PAGE}
            )
            for page in pages:
                told(self.name, prefix, page, _Page)
                for found in page.get("Contents", []):
                    yield _below(prefix, told(self.name, prefix, found, _Listed).key).removeprefix(prefix)

    def versions(self, prefix: str) -> Iterator[Item | Marker]:
        """List all versions and delete markers of the keys that begin with `prefix`, newest first for each kind.

        Raises:
            StoreError: they cannot be listed.
        """
        with failures_named(self.name, prefix, "list the versions of what begins so (s3:ListBucketVersions)"):
            pages = self.client.get_paginator("list_object_versions").paginate(
                Bucket=self.name, Prefix=prefix, PaginationConfig={"PageSize": PAGE}
            )
            for page in pages:
                told(self.name, prefix, page, _Page)
                for version in page.get("Versions", []):
                    yield _item(prefix, told(self.name, prefix, version, _ListedVersion))
                for marker in page.get("DeleteMarkers", []):
                    listed = told(self.name, prefix, marker, _ListedMarker)
                    yield Marker(_below(prefix, listed.key), listed.version_id, listed.is_latest)

    def histories(self, prefix: str) -> dict[str, History]:
        """Return what `versions` lists, by key.

        Raises:
            StoreError: they cannot be listed, or the listing contradicts itself.
        """
        found: dict[str, History] = {}
        for entry in self.versions(prefix):
            history = found.setdefault(entry.key, History())
            if isinstance(entry, Item):
                history.versions.append(entry)
            else:
                history.markers.append(entry.version_id)
                history.is_deleted = history.is_deleted or entry.is_latest
        for key, history in found.items():
            self._require_one_latest(key, history)
        return found

    def _require_one_latest(self, key: str, history: History) -> None:
        is_first = not any(item.is_latest for item in history.versions[1:])
        if latest_count(history) != 1 or not is_first:
            reason = "the listing of its versions names none or several as the newest, or one that is not listed first"
            raise StoreError(f"bucket {self.name}, key {shown(key)}: {reason}; it was written to meanwhile: try again")

    def read(self, key: str) -> Stored | None:
        """Read a small object; None where there is none.

        Raises:
            StoreError: it cannot be read.
        """
        with failures_named(self.name, key, "read it (s3:GetObject)"):
            try:
                answer = self.client.get_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if code_of(error) in _NOTHING:
                    return None
                raise
            with closing(answer["Body"]) as stream:
                seen = told(self.name, key, answer, _Read)
                body = stream.read()
        item = Item(key=key, size_bytes=len(body), etag=_plain(seen.etag), modified_at=_utc(seen.last_modified))
        return Stored(body, item)

    def write(self, key: str, body: bytes) -> None:
        """Write a small object, in place of any other.

        Raises:
            StoreError: it cannot be written.
        """
        with failures_named(self.name, key, "write it (s3:PutObject)"):
            self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def write_if_same(self, key: str, body: bytes, etag: str | None) -> str:
        """Write a small object in place of what was seen there, and of nothing else.

        A server that cannot compare replaces what lies there.

        Args:
            key: Where.
            body: The content; nobody else writes the same.
            etag: What was seen; None where there was nothing.

        Returns:
            The ETag of what lies there now.

        Raises:
            StoreError: something else lies there by now, or it cannot be written.
        """
        with failures_named(self.name, key, "write it (s3:PutObject)"):
            try:
                if not self.supports("PutObject", "IfMatch"):
                    answer = self.client.put_object(Bucket=self.name, Key=key, Body=body)
                elif etag is None:
                    answer = self.client.put_object(Bucket=self.name, Key=key, Body=body, IfNoneMatch="*")
                else:
                    answer = self.client.put_object(Bucket=self.name, Key=key, Body=body, IfMatch=f'"{etag}"')
            except ClientError as error:
                code = code_of(error)
                if code in _NOT_THE_SAME or code in _NOTHING:
                    stored = self.read(key)
                    if stored is not None and stored.body == body:
                        # An earlier try has come through, and its answer did not.
                        return stored.item.etag
                    self._require_seen(key, stored, etag)
                elif code not in _NOT_IMPLEMENTED:
                    raise
                # Some servers misjudge the condition, e.g. where versioning is suspended.
                answer = self.client.put_object(Bucket=self.name, Key=key, Body=body)
        return _plain(told(self.name, key, answer, _Written).etag)

    def _require_seen(self, key: str, stored: Stored | None, etag: str | None) -> None:
        if (None if stored is None else stored.item.etag) != etag:
            reason = "another process has written or removed it meanwhile; nothing more was touched"
            raise StoreError(f"bucket {self.name}, key {shown(key)}: {reason}")

    def look_at(self, key: str) -> Item | None:
        """Return what a reader of the key gets; None where there is nothing.

        Raises:
            StoreError: the server does not tell.
        """
        with failures_named(self.name, key, "look at it (s3:GetObject)"):
            try:
                answer = self.client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if code_of(error) in _NOTHING:
                    return None
                raise
        seen = told(self.name, key, answer, _LookedAt)
        return Item(
            key=key,
            size_bytes=seen.content_length,
            etag=_plain(seen.etag),
            modified_at=_utc(seen.last_modified),
        )

    def delete_if_same(self, item: Item) -> bool:
        """Delete the object at a key of an unversioned bucket, provided that it still is `item`.

        The server is asked to compare contents in the same step. One that cannot deletes what was looked at a
        moment before.

        Returns:
            Whether the server may still do it: it was asked more than once, and answered once.

        Raises:
            StoreError: it cannot be deleted.
        """
        present = self.look_at(item.key)
        if present is None or not present.is_of(item.etag, item.modified_at):
            return False
        with failures_named(self.name, item.key, "delete it (s3:DeleteObject)"):
            try:
                if self.supports("DeleteObject", "IfMatch"):
                    answer = self.client.delete_object(Bucket=self.name, Key=item.key, IfMatch=f'"{item.etag}"')
                    return not was_tried_once(answer["ResponseMetadata"])
            except ClientError as error:
                code = code_of(error)
                if code in _NOT_THE_SAME or code in _NOTHING:
                    return not was_tried_once(error.response.get("ResponseMetadata", {}))
                if code not in _NOT_IMPLEMENTED:
                    raise
            answer = self.client.delete_object(Bucket=self.name, Key=item.key)
        return not was_tried_once(answer["ResponseMetadata"])


def was_tried_once(metadata: Mapping[str, object]) -> bool:
    """Tell whether botocore sent a request once: the server may have done each try, and told of the last one only."""
    return metadata.get("RetryAttempts") == 0


def is_nothing(code: str) -> bool:
    """Tell whether a server's code says that there is no such object or version."""
    return code in _NOTHING


def is_not_the_same(code: str) -> bool:
    """Tell whether a server's code says that a condition of the request did not hold."""
    return code in _NOT_THE_SAME


def _item(prefix: str, listed: _Listed) -> Item:
    item = Item(
        key=_below(prefix, listed.key),
        size_bytes=listed.size,
        etag=_plain(listed.etag),
        modified_at=_utc(listed.last_modified),
    )
    if not isinstance(listed, _ListedVersion):
        return item
    return replace(item, version_id=listed.version_id, is_latest=listed.is_latest)


def _below(prefix: str, key: str) -> str:
    """Check that a listing kept to its prefix: whatever else is wrong with a server, nothing beside is touched."""
    if not key.startswith(prefix):
        reason = "the server listed it among the keys that begin with"
        raise StoreError(f"key {shown(key)}: {reason} {shown(prefix)}; such a server cannot be used")
    return key


def _plain(etag: str) -> str:
    return etag.strip('"')


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)

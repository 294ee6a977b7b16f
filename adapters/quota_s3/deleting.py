"""Deleting keys and versions: by the thousand, several requests at a time, and each answer accounted for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from quota.errors import StoreError, shown
from quota_s3.bucket import PAGE, Bucket, is_nothing, was_tried_once
from quota_s3.failures import code_of, failures_named, refused
from quota_s3.parallel import in_parallel

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import DeleteObjectsOutputTypeDef, ObjectIdentifierTypeDef

_TASK = "delete it (s3:DeleteObject, s3:DeleteObjectVersion)"
# Older servers insist on Content-MD5, where newer versions of botocore send another checksum.
_ONE_BY_ONE = frozenset({"MissingContentMD5", "NotImplemented", "501"})
_SERVER_FAILED = 500
# Answers for single keys, which botocore does not retry; it does, with a pause, where a request is for one key only.
_PASSING = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "503"})
# XML cannot carry them, and what a server makes of them may be another key.
_NO_XML = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be deleted.

    Attributes:
        key: The key.
        version_id: Which version or delete marker of it, for good; None puts a delete marker on a versioned key.
    """

    key: str
    version_id: str | None = None


Markers = dict[str, str | None]
"""The version ids of delete markers by key: empty where the server put one and did not tell; None where it may still
put one, for it was asked and did not answer."""


def delete(bucket: Bucket, targets: Iterable[Target], markers: Markers | None = None) -> None:
    """Delete `targets`. What is gone already counts as deleted.

    Args:
        bucket: Where.
        targets: What.
        markers: Gains an item for each key for which a request was made that puts a delete marker; also where this
            raises.

    Raises:
        StoreError: the server refused or failed, or did not account for each of them exactly once.
    """
    noted: Markers = {} if markers is None else markers
    batched: list[Target] = []
    single: list[Target] = []
    for target in targets:
        (single if _NO_XML.search(target.key) else batched).append(target)
    batches = [batched[start : start + PAGE] for start in range(0, len(batched), PAGE)]
    for again in in_parallel(lambda batch: _delete_batch(bucket, batch, noted), batches):
        single.extend(again)
    in_parallel(lambda target: _delete_one(bucket, target, noted), single)


def _delete_batch(bucket: Bucket, batch: Sequence[Target], markers: Markers) -> list[Target]:
    """Delete a batch, and return which of it should be tried again, each by itself."""
    task = f"delete {len(batch)} keys from this one on (s3:DeleteObject, s3:DeleteObjectVersion)"
    marking = [target.key for target in batch if target.version_id is None]
    markers.update(dict.fromkeys(marking))
    with failures_named(bucket.name, batch[0].key, task):
        try:
            answer = bucket.client.delete_objects(
                Bucket=bucket.name, Delete={"Objects": [_identifier(target) for target in batch], "Quiet": False}
            )
        except ClientError as error:
            if _is_refusal(error):
                # It did none of it.
                for key in marking:
                    del markers[key]
            if code_of(error) in _ONE_BY_ONE:
                return list(batch)
            raise
    if was_tried_once(answer["ResponseMetadata"]):
        told = {done.get("Key", ""): done.get("DeleteMarkerVersionId") or "" for done in answer.get("Deleted", [])}
        markers.update({key: told[key] for key in marking if key in told})
        for failed in answer.get("Errors", []):
            if failed.get("Code", "") not in _PASSING and failed.get("Key") not in told:
                markers.pop(failed.get("Key", ""), None)
    return _settled(bucket, batch, answer)


def _is_refusal(error: ClientError) -> bool:
    """Tell whether the server refused a request at the first try, and so did nothing of what it asked for."""
    metadata = error.response.get("ResponseMetadata", {})
    has_failed = metadata.get("HTTPStatusCode", _SERVER_FAILED) >= _SERVER_FAILED and code_of(error) not in _ONE_BY_ONE
    return not has_failed and was_tried_once(metadata)


def _identifier(target: Target) -> ObjectIdentifierTypeDef:
    if target.version_id is None:
        return {"Key": target.key}
    return {"Key": target.key, "VersionId": target.version_id}


def _settled(bucket: Bucket, batch: Sequence[Target], answer: DeleteObjectsOutputTypeDef) -> list[Target]:
    asked = set(batch)
    answered: list[Target] = []
    for done in answer.get("Deleted", []):
        key = done.get("Key", "")
        # Of a delete marker that was deleted, some servers tell the version id by its other name only.
        ids = (done.get("VersionId"), done.get("DeleteMarkerVersionId"), None)
        target = next((target for target in (Target(key, id_) for id_ in ids) if target in asked), Target(key))
        answered.append(target if target in asked else _only_one_of(batch, target))
    again: list[Target] = []
    for failed in answer.get("Errors", []):
        target = Target(failed.get("Key", ""), failed.get("VersionId") or None)
        target = target if target in asked else _only_one_of(batch, target)
        answered.append(target)
        code = failed.get("Code", "") or "unknown"
        if code in _PASSING:
            again.append(target)
        elif not is_nothing(code):
            raise refused(bucket.name, target.key, _TASK, code, failed.get("Message") or "")
    _require_each_once(bucket, asked, answered)
    return again


def _only_one_of(batch: Sequence[Target], target: Target) -> Target:
    """Return what an answer without a version id is about: there is one with its key, or nobody can tell."""
    same = [other for other in batch if other.key == target.key]
    return same[0] if len(same) == 1 else target


def _require_each_once(bucket: Bucket, asked: set[Target], answered: Sequence[Target]) -> None:
    counts = Counter(answered)
    wrong = sorted({target.key for target in asked | set(counts) if counts[target] != (target in asked)})
    if wrong:
        reason = "the server did not say of each key, and of no other, once whether it is deleted"
        raise StoreError(f"bucket {bucket.name}, key {shown(wrong[0])}: {reason} ({len(wrong)} keys); look at them")


def _delete_one(bucket: Bucket, target: Target, markers: Markers) -> None:
    with failures_named(bucket.name, target.key, _TASK):
        try:
            if target.version_id is None:
                _mark_one(bucket, target.key, markers)
            else:
                bucket.client.delete_object(Bucket=bucket.name, Key=target.key, VersionId=target.version_id)
        except ClientError as error:
            if not is_nothing(code_of(error)):
                raise


def _mark_one(bucket: Bucket, key: str, markers: Markers) -> None:
    is_first = key not in markers
    markers[key] = None
    try:
        answer = bucket.client.delete_object(Bucket=bucket.name, Key=key)
    except ClientError as error:
        if is_first and _is_refusal(error):
            del markers[key]
        raise
    if is_first and was_tried_once(answer["ResponseMetadata"]):
        markers[key] = answer.get("VersionId") or ""


def erase(bucket: Bucket, prefix: str, keys: Container[str]) -> None:
    """Delete `keys`, which begin with `prefix`, for good, each with all of its versions.

    This is for what the store itself has written into its trash. The version that readers see goes last, so that a
    crash never brings an older one back.

    Raises:
        StoreError: the server refused or failed.
    """
    if bucket.versioning() == "off":
        delete(bucket, [Target(item.key) for item in bucket.objects(prefix) if item.key in keys])
        return
    first: list[Target] = []
    last: list[Target] = []
    for entry in bucket.versions(prefix):
        if entry.key in keys:
            (last if entry.is_latest else first).append(Target(entry.key, entry.version_id))
    delete(bucket, first)
    delete(bucket, last)

"""Copies that the server makes by itself, of objects of any size, of one content or none."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from botocore.exceptions import ClientError

from quota.errors import CheckpointChanged, StoreError, shown
from quota_s3.bucket import Bucket, is_not_the_same, is_nothing, told
from quota_s3.failures import code_of, failures_named

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        CopySourceTypeDef,
        CreateMultipartUploadRequestTypeDef,
        HeadObjectOutputTypeDef,
    )

MOST_AT_ONCE_BYTES = 5 * 1024**3
"""Larger objects are copied in parts (the limit is Amazon's)."""
PART_BYTES = 1024**3
"""Size of such a part: an object of 5 TiB then has fewer than the 10,000 parts that are allowed."""


ANYTHING = "*"
"""Stands for the ETag of whatever lies somewhere."""


class _Part(msgspec.Struct, frozen=True):
    etag: str = msgspec.field(name="ETag")


class _Begun(msgspec.Struct, frozen=True, rename="pascal"):
    upload_id: str


def copy(bucket: Bucket, source: str, target: str, etag: str, size_bytes: int, *, over: str | None) -> None:
    """Copy the object `source`, provided that its content is that of `etag`, with its metadata.

    Args:
        bucket: In which bucket.
        source: The key of the original.
        target: The key of the copy.
        etag: What the original must be.
        size_bytes: How large it is.
        over: The ETag of what the copy may replace at `target`: None for nothing, `ANYTHING` for whatever it is. Where
            the server cannot look at that in the same step, the caller has.

    Raises:
        CheckpointChanged: the original is another one or gone, or something lies at `target`.
        StoreError: the server refused or failed.
    """
    with failures_named(bucket.name, source, f"copy it to {shown(target)} (s3:GetObject, s3:PutObject)"):
        try:
            if size_bytes <= MOST_AT_ONCE_BYTES:
                _copy_at_once(bucket, source, target, etag, over)
            else:
                _copy_in_parts(bucket, source, target, etag, size_bytes, over)
        except ClientError as error:
            code = code_of(error)
            if is_nothing(code) or is_not_the_same(code):
                what = "it changed while it was copied to" if over == ANYTHING else "it changed, or something lies at"
                raise CheckpointChanged(
                    f"bucket {bucket.name}, key {shown(source)}: {what} {shown(target)}; try again"
                ) from error
            raise


def _copy_at_once(bucket: Bucket, source: str, target: str, etag: str, over: str | None) -> None:
    origin: CopySourceTypeDef = {"Bucket": bucket.name, "Key": source}
    condition = f'"{etag}"'
    if over == ANYTHING or not bucket.supports("CopyObject", _condition(over)):
        bucket.client.copy_object(Bucket=bucket.name, Key=target, CopySource=origin, CopySourceIfMatch=condition)
    elif over is not None:
        bucket.client.copy_object(
            Bucket=bucket.name, Key=target, CopySource=origin, CopySourceIfMatch=condition, IfMatch=f'"{over}"'
        )
    else:
        bucket.client.copy_object(
            Bucket=bucket.name, Key=target, CopySource=origin, CopySourceIfMatch=condition, IfNoneMatch="*"
        )


def _condition(over: str | None) -> str:
    return "IfNoneMatch" if over is None else "IfMatch"


def _copy_in_parts(bucket: Bucket, source: str, target: str, etag: str, size_bytes: int, over: str | None) -> None:
    upload_id = _begin(bucket, target, bucket.client.head_object(Bucket=bucket.name, Key=source))
    try:
        parts: list[CompletedPartTypeDef] = []
        for number, start in enumerate(range(0, size_bytes, PART_BYTES), start=1):
            answer = bucket.client.upload_part_copy(
                Bucket=bucket.name,
                Key=target,
                UploadId=upload_id,
                PartNumber=number,
                CopySource={"Bucket": bucket.name, "Key": source},
                CopySourceIfMatch=f'"{etag}"',
                CopySourceRange=f"bytes={start}-{min(start + PART_BYTES, size_bytes) - 1}",
            )
            part = told(bucket.name, target, answer.get("CopyPartResult"), _Part)
            parts.append({"PartNumber": number, "ETag": part.etag})
        if over == ANYTHING or not bucket.supports("CompleteMultipartUpload", _condition(over)):
            bucket.client.complete_multipart_upload(
                Bucket=bucket.name, Key=target, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        elif over is not None:
            bucket.client.complete_multipart_upload(
                Bucket=bucket.name,
                Key=target,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                IfMatch=f'"{over}"',
            )
        else:
            bucket.client.complete_multipart_upload(
                Bucket=bucket.name, Key=target, UploadId=upload_id, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
    except (ClientError, StoreError):
        with suppress(ClientError):
            bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=target, UploadId=upload_id)
        raise


def _begin(bucket: Bucket, target: str, original: HeadObjectOutputTypeDef) -> str:
    """Begin an upload with the metadata of the original, which only a copy at once takes along by itself."""
    request: CreateMultipartUploadRequestTypeDef = {
        "Bucket": bucket.name,
        "Key": target,
        "Metadata": original.get("Metadata", {}),
    }
    if "CacheControl" in original:
        request["CacheControl"] = original["CacheControl"]
    if "ContentDisposition" in original:
        request["ContentDisposition"] = original["ContentDisposition"]
    if "ContentEncoding" in original:
        request["ContentEncoding"] = original["ContentEncoding"]
    if "ContentLanguage" in original:
        request["ContentLanguage"] = original["ContentLanguage"]
    if "ContentType" in original:
        request["ContentType"] = original["ContentType"]
    if "StorageClass" in original:
        request["StorageClass"] = original["StorageClass"]
    return told(bucket.name, target, bucket.client.create_multipart_upload(**request), _Begun).upload_id

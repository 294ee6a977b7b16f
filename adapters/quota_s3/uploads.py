"""Unfinished multipart uploads: their parts take room, and no listing of objects shows them."""

from __future__ import annotations

from datetime import datetime

import msgspec
from botocore.exceptions import ClientError

from quota.errors import StoreError, shown
from quota_s3.bucket import PAGE, Bucket, told
from quota_s3.claims import Claim
from quota_s3.failures import code_of, failures_named
from quota_s3.parallel import in_parallel

# A part that is being uploaded while its upload is aborted may survive, so each is looked for again.
_MOST_ROUNDS = 10
_NO_UPLOADS = frozenset({"NoSuchUpload", "404", "NotImplemented", "501"})


class _Upload(msgspec.Struct, frozen=True, rename="pascal"):
    key: str
    upload_id: str
    initiated: datetime


def abort_older_uploads(bucket: Bucket, prefix: str, claim: Claim) -> None:
    """Abort the unfinished uploads to a claimed checkpoint's place that are older than it, until none is left.

    They are of that checkpoint, or of one that it has replaced. What was begun after the last of it was written stays,
    even if that was before the claim: a trial that runs again writes its next checkpoint to the same keys, and may take
    its time. Nothing tells such an upload from that of a trial that was killed; a lifecycle rule may end the latter.

    Raises:
        StoreError: the server refused or failed, or the uploads do not end.
    """
    if claim.written_at is not None:
        # One listing tells the time to the second, another more exactly.
        abort_uploads(bucket, prefix, claim.written_at.replace(microsecond=0))


def abort_uploads(bucket: Bucket, prefix: str, before: datetime | None = None) -> None:
    """Abort the unfinished uploads to keys that begin with `prefix`, until none is left.

    Args:
        bucket: Where.
        prefix: What the keys begin with.
        before: Those begun at this time or later are left alone; None aborts all.

    Raises:
        StoreError: the server refused or failed, or the uploads do not end.
    """
    for _ in range(_MOST_ROUNDS):
        uploads = [upload for upload in _uploads(bucket, prefix) if before is None or upload.initiated < before]
        if not uploads:
            return
        in_parallel(lambda upload: _abort(bucket, upload.key, upload.upload_id), uploads)
    reason = "unfinished multipart uploads stay listed though they were aborted"
    raise StoreError(f"bucket {bucket.name}, key {shown(prefix)}: {reason}; whatever uploads there must stop first")


def _uploads(bucket: Bucket, prefix: str) -> list[_Upload]:
    found: list[_Upload] = []
    with failures_named(bucket.name, prefix, "list unfinished uploads (s3:ListBucketMultipartUploads)"):
        pages = bucket.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket.name, Prefix=prefix, PaginationConfig={"PageSize": PAGE}
        )
        try:
            for page in pages:
                uploads = (told(bucket.name, prefix, upload, _Upload) for upload in page.get("Uploads", []))
                found.extend(upload for upload in uploads if upload.key.startswith(prefix))
        except ClientError as error:
            # A server without multipart uploads has none that are unfinished.
            if code_of(error) not in _NO_UPLOADS:
                raise
    return found


def _abort(bucket: Bucket, key: str, upload_id: str) -> None:
    with failures_named(bucket.name, key, "abort an unfinished upload (s3:AbortMultipartUpload)"):
        try:
            bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload_id)
        except ClientError as error:
            if code_of(error) not in _NO_UPLOADS:
                raise

"""Comparing the contents of two objects, where their ETags do not tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import zip_longest

from botocore.exceptions import ClientError

from quota.errors import shown
from quota_s3.bucket import Bucket, is_not_the_same, is_nothing
from quota_s3.failures import code_of, failures_named
from quota_s3.objects import Item

_CHUNK_BYTES = 1024 * 1024


def have_same_content(bucket: Bucket, one: Item, other: Item) -> bool:
    """Compare the contents of two objects of equal size, byte by byte up to the first that differs.

    Returns:
        False as well where one of them is no longer what was listed, or was not read whole.

    Raises:
        StoreError: the server refused or failed.
    """
    compared_bytes = 0
    with failures_named(bucket.name, one.key, f"compare it with {shown(other.key)} (s3:GetObject)"):
        try:
            for chunk, other_chunk in zip_longest(_chunks(bucket, one), _chunks(bucket, other)):
                if chunk != other_chunk:
                    return False
                compared_bytes += len(chunk)
        except ClientError as error:
            code = code_of(error)
            if is_nothing(code) or is_not_the_same(code):
                return False
            raise
    return compared_bytes == one.size_bytes


def _chunks(bucket: Bucket, item: Item) -> Iterator[bytes]:
    answer = bucket.client.get_object(Bucket=bucket.name, Key=item.key, IfMatch=f'"{item.etag}"')
    with closing(answer["Body"]) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk

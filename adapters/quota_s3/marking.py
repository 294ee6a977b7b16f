"""The mark by which a store's root is known: an object in its trash, which no checkpoint can hold."""

from __future__ import annotations

from quota.ports import Marks
from quota_s3.bucket import Bucket
from quota_s3.failures import AccessRefused
from quota_s3.roots import Root

_MAX_BYTES = 200


def read_mark(root: Root, bucket: Bucket) -> str | None:
    """Read the root's own mark; None where it has none.

    Raises:
        StoreError: it cannot be read.
    """
    return _mark_at(bucket, root.mark_key)


def read_marks(root: Root, bucket: Bucket) -> Marks:
    """Read the root's own mark, and those of the prefixes above it, up to the bucket's own.

    A mark above that these credentials may not read is passed over: they could not delete there either.

    Raises:
        StoreError: they cannot be read.
    """
    own = read_mark(root, bucket)
    above: list[str] = []
    for key in root.mark_keys_above:
        try:
            mark = _mark_at(bucket, key)
        except AccessRefused:
            continue
        if mark is not None:
            above.append(mark)
    return Marks(own, tuple(above))


def write_mark(root: Root, bucket: Bucket, text: str) -> None:
    """Mark the root with a text.

    Raises:
        StoreError: it cannot be written.
    """
    bucket.write(root.mark_key, f"{text}\n".encode())


def _mark_at(bucket: Bucket, key: str) -> str | None:
    stored = bucket.read(key)
    return None if stored is None else stored.body[:_MAX_BYTES].decode("ascii", "backslashreplace").strip()

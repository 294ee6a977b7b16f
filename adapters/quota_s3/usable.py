"""Telling beforehand whether anything can be moved in a bucket: by an object of the trash's own that comes and goes."""

from __future__ import annotations

from collections.abc import Iterator

from quota_s3.bucket import Bucket
from quota_s3.deleting import Target, delete
from quota_s3.hiding import require_hiding
from quota_s3.objects import Item, Marker
from quota_s3.roots import Root


def require_usable(root: Root, bucket: Bucket) -> None:
    """Check that the bucket is there, that what is deleted from it can be restored, and that one may write and delete.

    That takes four requests or five. What one that was refused has left, the next one takes away; under object lock a
    version without content may stay.

    Raises:
        DeletionForbidden: nobody may delete for good there: object lock, MFA delete.
        StoreError: the bucket cannot be reached, is another one, has its versioning suspended, or refused something.
    """
    versioning = bucket.versioning()
    keeps_versions = versioning != "off"
    if keeps_versions:
        require_hiding(bucket, versioning)
    # No claim begins with a dot, and nobody minds if two processes ask at a time.
    key = f"{root.trash_prefix}.usable"
    bucket.write(key, b"")
    if keeps_versions:
        delete(bucket, [Target(key)])
    found: Iterator[Item | Marker] = bucket.versions(key) if keeps_versions else bucket.objects(key)
    delete(bucket, [Target(entry.key, entry.version_id) for entry in found if entry.key == key])

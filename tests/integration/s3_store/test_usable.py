"""Whether anything can be moved in a bucket is told beforehand, and nothing is left of the asking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.s3_store.house import FILES, House, error, listening
from quota.errors import DeletionForbidden, StoreError
from quota.ports import UsableStore
from quota_s3 import open_store
from quota_s3.failures import AccessRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3_servers import Kind, S3Server

MOST_REQUESTS = 5


def test_a_bucket_where_all_is_allowed_can_be_used(house: House) -> None:
    before = house.everything(house.top)
    sent: list[str] = []
    assert isinstance(house.store, UsableStore)
    with listening(house.store, "before-send.s3", lambda event_name, **_: sent.append(event_name)):
        house.store.require_usable()
    assert len(sent) <= MOST_REQUESTS
    assert house.everything(house.top) == before
    assert house.files() == FILES


@pytest.mark.parametrize(
    ("request_name", "task"),
    [
        ("GetBucketVersioning", "s3:GetBucketVersioning"),
        ("PutObject", "s3:PutObject"),
        ("List*", "s3:ListBucket"),
        ("DeleteObjects", "s3:DeleteObject"),
    ],
)
def test_each_right_that_is_lacking_is_named(house: House, request_name: str, task: str) -> None:
    if request_name == "List*":
        request_name = "ListObjectVersions" if house.kind == "versioned" else "ListObjectsV2"
    with (
        listening(house.store, f"before-send.s3.{request_name}", error(403, "AccessDenied")),
        pytest.raises(AccessRefused, match=rf"bucket {house.bucket}.*{task}.*AccessDenied"),
    ):
        house.store.require_usable()
    # What this has left is taken away by the next one.
    before = house.everything(house.prefix)
    house.store.require_usable()
    assert house.everything(house.prefix) == before


@pytest.mark.parametrize(
    ("status", "code", "message", "advice", "error_class"),
    [
        (301, "PermanentRedirect", "use the other endpoint", "set QUOTA_S3_REGION", StoreError),
        (403, "AccessDenied", "", "QUOTA_S3_EXPECTED_BUCKET_OWNER", AccessRefused),
        (404, "NoSuchBucket", "", "no such bucket", StoreError),
    ],
)
def test_a_bucket_that_is_elsewhere_or_anothers_is_told(
    house: House, status: int, code: str, message: str, advice: str, error_class: type[StoreError]
) -> None:
    with (
        listening(house.store, "before-send.s3.GetBucketVersioning", error(status, code, message)),
        pytest.raises(error_class, match=advice),
    ):
        house.store.require_usable()


def test_a_bucket_where_nobody_may_purge_is_told(new_house: Callable[[Kind], House]) -> None:
    house = new_house("versioned")
    locked = error(403, "AccessDenied", "Access Denied because object protected by object lock.")
    sent: list[int] = []

    def lock_versions(request: object, **keywords: object) -> object:
        sent.append(1)
        return None if len(sent) == 1 else locked(request=request, **keywords)

    with (
        listening(house.store, "before-send.s3.DeleteObjects", lock_versions),
        pytest.raises(DeletionForbidden, match="object lock"),
    ):
        house.store.require_usable()
    house.store.require_usable()


@pytest.mark.usefixtures("s3_environment")
def test_a_bucket_whose_versioning_is_suspended_is_told(s3_server: S3Server) -> None:
    bucket = s3_server.create_bucket("versioned")
    s3_server.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    with pytest.raises(StoreError, match=f"bucket {bucket}.*suspended.*enable versioning again"):
        open_store(f"s3://{bucket}/hpo/").require_usable()
    assert "Contents" not in s3_server.client.list_objects_v2(Bucket=bucket)


@pytest.mark.usefixtures("s3_environment")
def test_a_bucket_that_is_gone_is_told(s3_server: S3Server) -> None:
    bucket = s3_server.create_bucket("unversioned")
    store = open_store(f"s3://{bucket}/hpo/")
    s3_server.client.delete_bucket(Bucket=bucket)
    with pytest.raises(StoreError, match=f"bucket {bucket}.*no such bucket"):
        store.require_usable()

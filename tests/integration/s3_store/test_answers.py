"""What answers in the server's place, or leaves out what every server says, is found out, and nothing is lost by it."""

from __future__ import annotations

import pytest

from integration.s3_store.house import CLAIM, FILES, House, answer, listening
from quota.domain.manifest import Manifest
from quota.errors import StoreError

HEADERS = {"ETag": '"x"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Content-Length": "0"}


def test_an_answer_without_what_every_answer_has_is_refused(versioned: House) -> None:
    body = "<ListVersionsResult><Version><Key>x</Key></Version></ListVersionsResult>"
    with (
        listening(versioned.store, "before-send.s3.ListObjectVersions", answer(200, body)),
        pytest.raises(StoreError, match="not S3's"),
    ):
        versioned.store.manifest(versioned.uri)


@pytest.mark.parametrize("missing", ["ETag", "Last-Modified"])
def test_an_object_without_what_every_object_has_is_refused(house: House, missing: str) -> None:
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    said = rf"bucket {house.bucket}, key '{house.root}\.trash/{CLAIM}': .*not S3's: .*`{missing.replace('-', '')}`"
    with listening(house.store, "before-send.s3.GetObject", answer(200, "", headers)):
        for act in (
            lambda: house.store.trashed(CLAIM),
            lambda: house.store.restore(house.uri, CLAIM),
            lambda: house.store.purge(CLAIM, Manifest()),
        ):
            with pytest.raises(StoreError, match=said):
                act()
        with pytest.raises(StoreError, match="not S3's"):
            house.store.own_mark()
    assert house.files() == FILES


@pytest.mark.parametrize("missing", ["ETag", "Last-Modified", "Content-Length"])
def test_no_original_is_deleted_where_a_look_at_it_tells_too_little(unversioned: House, missing: str) -> None:
    too_little = answer(200, "", {name: value for name, value in HEADERS.items() if name != missing})

    def tell_little_of_originals(request: object, **keywords: object) -> object:
        is_original = "/trial-1/" in str(getattr(request, "url", ""))
        return too_little(request=request, **keywords) if is_original else None

    with (
        listening(unversioned.store, "before-send.s3.HeadObject", tell_little_of_originals),
        pytest.raises(StoreError, match=rf"key '{unversioned.prefix}.*not S3's: .*`{missing.replace('-', '')}`"),
    ):
        unversioned.evict()
    assert unversioned.files() == FILES


def test_an_object_of_a_time_that_is_none_is_refused(house: House) -> None:
    page = answer(200, "", {**HEADERS, "Last-Modified": "yesterday"})
    with (
        listening(house.store, "before-send.s3.GetObject", page),
        pytest.raises(StoreError, match=rf"key '{house.root}\.trash/{CLAIM}': .*not S3's: .*yesterday"),
    ):
        house.store.trashed(CLAIM)


def test_a_page_that_is_no_listing_is_no_empty_one(house: House) -> None:
    manifest = house.store.manifest(house.uri)
    page = answer(200, "<html><body><p>Please log in.</p></body></html>")
    for act in (
        lambda: house.store.manifest(house.uri),
        lambda: list(house.store.survey()),
        house.store.claims,
        lambda: house.store.trash(house.uri, CLAIM, manifest),
    ):
        with listening(house.store, "before-send.s3", page), pytest.raises(StoreError, match="not S3's") as refusal:
            act()
        assert type(refusal.value) is StoreError
    assert house.files() == FILES


def test_a_listing_that_does_not_keep_to_its_prefix_is_refused(unversioned: House) -> None:
    listed = (
        "<Contents><Key>elsewhere/model.pt</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
        "<ETag>x</ETag><Size>1</Size></Contents>"
    )
    body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"
    with (
        listening(unversioned.store, "before-send.s3.ListObjectsV2", answer(200, body)),
        pytest.raises(StoreError, match="elsewhere"),
    ):
        unversioned.store.manifest(unversioned.uri)

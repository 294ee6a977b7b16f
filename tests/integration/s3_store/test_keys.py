"""Many keys, odd keys, large objects, and uploads that nobody finished."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import quota_s3.copying
from integration.s3_store.house import CLAIM, FILES, House, listening
from quota.errors import PathRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3_servers import Kind

# Without versions each key takes four requests by itself.
MANY: dict[Kind, int] = {"versioned": 2_500, "unversioned": 1_100}
MIB = 1024 * 1024


def test_a_checkpoint_of_many_keys_goes_by_the_thousand(house: House, kind: Kind) -> None:
    many = MANY[kind]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: house.put(f"shard-{number:05}", b"%d" % number), range(many)))
    batches: list[int] = []

    def count(request: object, **_: object) -> None:
        batches.append(str(getattr(request, "body", "")).count("<Key>"))

    with listening(house.store, "before-send.s3.DeleteObjects", count):
        manifest = house.evict()
        assert len(manifest.entries) == many + len(FILES)
        assert house.files() == {}
        house.store.purge(CLAIM, manifest)
    assert house.everything(house.prefix) == set()
    assert max(batches) == 1_000
    assert sum(batches) >= many * (2 if kind == "versioned" else 1)


def test_a_name_that_no_listing_tells_is_refused(new_house: Callable[[Kind], House]) -> None:
    # This server does not quote keys when it lists versions, and XML cannot carry this one.
    house = new_house("versioned")
    house.put("a\x01b", b"odd")
    before = house.everything(house.top)
    with pytest.raises(PathRefused, match=r"U\+FFFD"):
        house.evict()
    assert house.everything(house.top) == before


def test_a_name_that_xml_cannot_carry_is_deleted_by_itself(new_house: Callable[[Kind], House]) -> None:
    house = new_house("unversioned")
    house.put("a\x01b", b"odd")
    manifest = house.evict()
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == {**FILES, "a\x01b": b"odd"}
    house.store.trash(house.uri, CLAIM, manifest)
    house.store.purge(CLAIM, manifest)
    assert house.everything(house.prefix) == set()
    assert house.in_trash() == set()


@pytest.mark.parametrize("name", ["line\nbreak", "tab\there", " blanks ", "<&>\"'", "ключ", "a+b?c#d", "50%~é"])
def test_odd_names_come_and_go_like_others(house: House, name: str) -> None:
    house.put(name, b"odd")
    files = {**FILES, name: b"odd"}
    manifest = house.evict()
    assert all(entry.path.isascii() and entry.path.isprintable() for entry in manifest.entries)
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == files
    house.store.trash(house.uri, CLAIM, manifest)
    house.store.purge(CLAIM, manifest)
    assert house.everything(house.prefix) == set()


def test_a_placeholder_of_the_checkpoint_itself_is_part_of_it(house: House) -> None:
    house.put("", b"")
    manifest = house.evict()
    assert [entry.path for entry in manifest.entries] == [
        ".",
        "model.pt",
        "sub/",
        "sub/state 1.bin",
    ]
    assert house.files() == {}
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == {**FILES, "": b""}
    assert house.store.manifest(house.uri) == manifest


def test_a_checkpoint_that_holds_a_trash_is_refused(house: House) -> None:
    house.put(".trash/.store", b"another store's")
    with pytest.raises(PathRefused, match="another store"):
        house.store.manifest(house.uri)


def test_a_large_object_is_copied_in_parts(new_house: Callable[[Kind], House], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_s3.copying, "MOST_AT_ONCE_BYTES", 6 * MIB)
    monkeypatch.setattr(quota_s3.copying, "PART_BYTES", 5 * MIB)
    house = new_house("unversioned")
    content = bytes(range(256)) * (12 * MIB // 256) + b"!"
    key = f"{house.prefix}large.pt"
    house.client.put_object(
        Bucket=house.bucket, Key=key, Body=content, ContentType="application/x-weights", Metadata={"epoch": "9"}
    )
    manifest = house.evict()
    assert house.store.restore(house.uri, CLAIM)
    found = house.client.get_object(Bucket=house.bucket, Key=key)
    assert hashlib.sha256(found["Body"].read()).digest() == hashlib.sha256(content).digest()
    assert (found["ContentType"], found["Metadata"]) == ("application/x-weights", {"epoch": "9"})
    assert house.store.manifest(house.uri) == manifest
    uploads = house.client.list_multipart_uploads(Bucket=house.bucket, Prefix=house.root)
    assert uploads.get("Uploads", []) == []


def test_a_purge_ends_unfinished_uploads_that_were_begun_before_the_claim(house: House) -> None:
    def begin(key: str) -> str:
        return house.client.create_multipart_upload(Bucket=house.bucket, Key=key)["UploadId"]

    def unfinished() -> set[str]:
        listing = house.client.list_multipart_uploads(Bucket=house.bucket, Prefix=house.top)
        return {upload.get("UploadId", "") for upload in listing.get("Uploads", [])}

    old = {begin(f"{house.prefix}model.pt"), begin(f"{house.prefix}sub/part")}
    beside = begin(f"{house.prefix.rstrip('/')}0/model.pt")
    manifest = house.evict()
    later = begin(f"{house.prefix}model.pt")
    # The servers tell these times to the second, so the claim is made to seem a minute younger than the uploads.
    _shift_begin(house, minute=1)
    assert unfinished() == old | {beside, later}
    house.store.purge(CLAIM, manifest)
    assert unfinished() <= {beside, later}
    assert beside in unfinished()


def test_a_purge_leaves_uploads_that_were_begun_since(house: House) -> None:
    manifest = house.evict()
    later = house.client.create_multipart_upload(Bucket=house.bucket, Key=f"{house.prefix}model.pt")["UploadId"]
    _shift_begin(house, minute=-1)
    house.store.purge(CLAIM, manifest)
    listing = house.client.list_multipart_uploads(Bucket=house.bucket, Prefix=house.top)
    assert [upload.get("UploadId") for upload in listing.get("Uploads", [])] == [later]


def _shift_begin(house: House, minute: int) -> None:
    key = f"{house.root}.trash/{CLAIM}"
    claim = json.loads(house.client.get_object(Bucket=house.bucket, Key=key)["Body"].read())
    begun_at = datetime.fromisoformat(claim["begun_at"]) + timedelta(minutes=minute)
    claim["begun_at"] = begun_at.isoformat()
    house.client.put_object(Bucket=house.bucket, Key=key, Body=json.dumps(claim).encode())

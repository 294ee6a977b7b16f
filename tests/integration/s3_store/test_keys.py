"""Many keys, odd keys, large objects, and uploads that nobody finished."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import quota_s3.copying
from integration.s3_store.house import CLAIM, FILES, House, listening
from quota.errors import PathRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

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


def test_a_purge_ends_the_uploads_that_are_older_than_the_checkpoint_and_no_others(house: House) -> None:
    old = {begin_upload(house, "model.pt"), begin_upload(house, "sub/part")}
    beside = begin_upload(house, "model.pt", "trial-10")
    let_a_second_pass(house)
    house.put("model.pt", b"weights")
    # A trial that runs on writes its next checkpoint to the same keys.
    later = {begin_upload(house, "model.pt")}
    let_a_second_pass(house)
    manifest = house.evict()
    later.add(begin_upload(house, "sub/part"))
    # What is copied back is as old as it was.
    assert house.store.restore(house.uri, CLAIM)
    house.store.trash(house.uri, CLAIM, manifest)
    assert unfinished(house) == {*old, beside, *later}
    house.store.purge(CLAIM, manifest)
    assert unfinished(house) == {beside, *later}


def test_a_purge_of_placeholders_alone_ends_no_upload(house: House) -> None:
    for name in FILES:
        house.client.delete_object(Bucket=house.bucket, Key=house.prefix + name)
    house.put("sub/", b"")
    upload_id = begin_upload(house, "model.pt")
    let_a_second_pass(house)
    manifest = house.evict()
    assert [entry.path for entry in manifest.entries] == ["sub/"]
    house.store.purge(CLAIM, manifest)
    assert unfinished(house) == {upload_id}


def begin_upload(house: House, name: str, trial: str = "trial-1") -> str:
    key = f"{house.root}experiment/{trial}/{name}"
    return house.client.create_multipart_upload(Bucket=house.bucket, Key=key)["UploadId"]


def unfinished(house: House) -> set[str]:
    listing = house.client.list_multipart_uploads(Bucket=house.bucket, Prefix=house.top)
    return {upload.get("UploadId", "") for upload in listing.get("Uploads", [])}


def let_a_second_pass(house: House) -> None:
    """Servers tell times to the second, by their own clocks."""
    begun = server_second(house)
    while server_second(house) == begun:
        pass


def server_second(house: House) -> datetime:
    key = f"clock-{house.top.rstrip('/')}"
    house.client.put_object(Bucket=house.bucket, Key=key, Body=b"tick")
    return house.client.head_object(Bucket=house.bucket, Key=key)["LastModified"]

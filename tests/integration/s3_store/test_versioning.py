"""A delete by key hides only while the bucket keeps versions: that is asked right before, and never relied on."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import pytest

from integration.s3_store.house import CLAIM, FILES, Crash, CrashAt, House, answer, error, listening, once
from quota.errors import StoreError

if TYPE_CHECKING:
    from s3_servers import S3Server

REFUSED = "would destroy what lies there instead of hiding it; enable versioning again"


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    return s3_server.create_bucket("versioned")


@pytest.fixture
def old_house(s3_server: S3Server, bucket: str, request: pytest.FixtureRequest) -> House:
    """A checkpoint that was written while its bucket kept no versions: all of it has the version id `null`."""
    request.getfixturevalue("s3_environment")
    s3_server.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    house = House(s3_server.client, bucket, "versioned")
    set_versioning(house, "Enabled")
    assert {version for key, version, _ in house.everything(house.prefix) if not key.endswith("/")} == {"null"}
    return house


def set_versioning(house: House, status: Literal["Enabled", "Suspended"]) -> None:
    house.client.put_bucket_versioning(Bucket=house.bucket, VersioningConfiguration={"Status": status})


def require_whole(house: House) -> None:
    """Check that nothing was hidden or lost, and that it can be evicted and restored once versions are kept again."""
    assert house.files() == FILES
    assert not house.store.trashed(CLAIM)
    # It is kept where a request was cut off.
    house.store.release(house.uri, CLAIM)
    assert house.beside() == house.neighbours
    set_versioning(house, "Enabled")
    manifest = house.evict()
    assert house.files() == {}
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest


@pytest.mark.parametrize("cut_off_at", [0, 1])
def test_nothing_is_hidden_once_versioning_was_suspended_since_a_crash(old_house: House, cut_off_at: int) -> None:
    manifest = old_house.store.manifest(old_house.uri)
    with (
        listening(old_house.store, "before-send.s3.DeleteObjects", error(400, "MissingContentMD5")),
        # Key by key, so that a part is hidden when it dies.
        listening(old_house.store, "before-send.s3.DeleteObject", CrashAt(cut_off_at)),
        pytest.raises(Crash),
    ):
        old_house.store.trash(old_house.uri, CLAIM, manifest)
    assert len(old_house.files()) == len(FILES) - cut_off_at
    set_versioning(old_house, "Suspended")
    with pytest.raises(StoreError, match=f"suspended, so a delete {REFUSED}"):
        old_house.store.trash(old_house.uri, CLAIM, manifest)
    require_whole(old_house)


def test_nothing_is_hidden_once_versioning_is_suspended_in_the_middle(old_house: House) -> None:
    manifest = old_house.store.manifest(old_house.uri)
    suspended, todo = once(lambda: set_versioning(old_house, "Suspended"))
    with (
        listening(old_house.store, "before-send.s3.PutObject", suspended),
        pytest.raises(StoreError, match=f"suspended, so a delete {REFUSED}"),
    ):
        old_house.store.trash(old_house.uri, CLAIM, manifest)
    assert todo == []
    require_whole(old_house)


@pytest.mark.parametrize("said", ["", "<Status>Suspended</Status>", "<Status>Whatever</Status>"])
def test_nothing_is_hidden_unless_the_server_says_that_it_keeps_versions(old_house: House, said: str) -> None:
    manifest = old_house.store.manifest(old_house.uri)
    configuration = answer(200, f"<VersioningConfiguration>{said}</VersioningConfiguration>")
    numbers = itertools.count(1)

    def answer_the_second(**keywords: object) -> object:
        return configuration(**keywords) if next(numbers) == 2 else None

    with (
        listening(old_house.store, "before-send.s3.GetBucketVersioning", answer_the_second),
        pytest.raises(StoreError, match=REFUSED),
    ):
        old_house.store.trash(old_house.uri, CLAIM, manifest)
    require_whole(old_house)


def test_a_purge_hides_nothing_once_versioning_was_suspended(old_house: House) -> None:
    manifest = old_house.store.manifest(old_house.uri)
    with (
        listening(old_house.store, "before-send.s3.DeleteObjects", error(400, "MissingContentMD5")),
        listening(old_house.store, "before-send.s3.DeleteObject", CrashAt(1)),
        pytest.raises(Crash),
    ):
        old_house.store.trash(old_house.uri, CLAIM, manifest)
    set_versioning(old_house, "Suspended")
    with pytest.raises(StoreError, match=f"suspended, so a delete {REFUSED}"):
        old_house.store.purge(CLAIM, manifest)
    require_whole(old_house)


def test_a_write_while_versioning_is_suspended_is_not_purged_along(old_house: House) -> None:
    manifest = old_house.evict()
    set_versioning(old_house, "Suspended")
    # It takes the place, and the version id, of what the claim is on.
    write, todo = once(lambda: old_house.put("model.pt", b"WEIGHTS"))
    with (
        listening(old_house.store, "before-send.s3.DeleteObjects", write),
        pytest.raises(StoreError, match=r"is suspended, and .* enable versioning again"),
    ):
        old_house.store.purge(CLAIM, manifest)
    if todo:
        todo.pop()()
    assert old_house.files() == {"model.pt": b"WEIGHTS"}
    assert old_house.store.trashed(CLAIM)
    set_versioning(old_house, "Enabled")
    old_house.store.purge(CLAIM, manifest)
    assert old_house.files() == {"model.pt": b"WEIGHTS"}
    assert not old_house.store.trashed(CLAIM)
    assert old_house.beside() == old_house.neighbours

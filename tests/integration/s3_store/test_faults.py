"""What a server refuses or gets wrong is named, and nothing is lost by it."""

from __future__ import annotations

import itertools
import socket
from time import monotonic
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import pytest

from integration.s3_store.house import CLAIM, FILES, House, answer, client_of, error, listening
from quota.errors import DeletionForbidden, StoreError
from quota_s3 import open_store
from quota_s3.failures import AccessRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from quota.domain.manifest import Manifest
    from s3_servers import Kind, S3Server

DELETE_MANY = "before-send.s3.DeleteObjects"
# Who and what is meant is named, and says nothing about why.
WITH_ARN = (
    "User: arn:aws:sts::123456789012:assumed-role/worm/mfa is not authorized to perform: s3:DeleteObject on resource: "
    "arn:aws:s3:::bucket/legalhold/retention/model.pt because no identity-based policy allows it"
)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)


def require_untouched(house: House, manifest: Manifest) -> None:
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest
    assert not house.store.trashed(CLAIM)
    # It is kept where a request was cut off, or was not answered.
    house.store.release(house.uri, CLAIM)
    assert house.in_trash() == set()


def deleted(*keys: str, refused: tuple[tuple[str, str, str], ...] = ()) -> str:
    done = "".join(f"<Deleted><Key>{escape(key)}</Key><DeleteMarker>true</DeleteMarker></Deleted>" for key in keys)
    errors = "".join(
        f"<Error><Key>{escape(key)}</Key><Code>{code}</Code><Message>{message}</Message></Error>"
        for key, code, message in refused
    )
    return f"<DeleteResult>{done}{errors}</DeleteResult>"


def keys_of(house: House) -> list[str]:
    return [house.prefix + name for name in FILES]


@pytest.mark.parametrize(
    ("status", "code", "message", "advice", "error_class"),
    [
        (403, "AccessDenied", "Access Denied", "these credentials have the right", AccessRefused),
        (403, "AccessDenied", "Mfa Authentication must be used for this request", "MFA delete", DeletionForbidden),
        (403, "AccessDenied", "This operation needs multi-factor authentication.", "MFA delete", DeletionForbidden),
        (403, "AccessDenied", "Access Denied because object protected by object lock.", "lift that", DeletionForbidden),
        (403, "AccessDenied", "The object has a legal hold", "lift that", DeletionForbidden),
        (400, "InvalidRequest", "Object is WORM protected and cannot be overwritten", "lift that", DeletionForbidden),
        (403, "AccessDenied", WITH_ARN, "these credentials have the right", AccessRefused),
        (403, "ObjectLocked", "", "lift that", DeletionForbidden),
        (404, "NoSuchBucket", "The specified bucket does not exist", "no such bucket", StoreError),
        (503, "SlowDown", "Please reduce your request rate.", "overloaded", StoreError),
        (500, "InternalError", "We encountered an internal error.", "next sweep", StoreError),
        (301, "PermanentRedirect", "use the other endpoint", "another region", StoreError),
        (418, "Teapot", "", "no reason given", StoreError),
    ],
)
def test_a_refusal_names_bucket_key_cause_and_cure(
    versioned: House, status: int, code: str, message: str, advice: str, error_class: type[StoreError]
) -> None:
    manifest = versioned.store.manifest(versioned.uri)
    with (
        listening(versioned.store, DELETE_MANY, error(status, code, message)),
        pytest.raises(StoreError) as refusal,
    ):
        versioned.store.trash(versioned.uri, CLAIM, manifest)
    assert type(refusal.value) is error_class
    said = str(refusal.value)
    assert [
        part for part in (versioned.bucket, f"{versioned.prefix}model.pt", code, message, advice) if part not in said
    ] == []
    assert versioned.files() == FILES
    assert not versioned.store.trashed(CLAIM)
    # The claim could not be taken back either; the next call does.
    assert not versioned.store.restore(versioned.uri, CLAIM)
    require_untouched(versioned, manifest)


@pytest.mark.parametrize("request_name", ["CopyObject", "PutObject", "ListObjectsV2"])
def test_a_refusal_while_copying_leaves_the_checkpoint_alone(unversioned: House, request_name: str) -> None:
    manifest = unversioned.store.manifest(unversioned.uri)
    with (
        listening(unversioned.store, f"before-send.s3.{request_name}", error(403, "AccessDenied")),
        pytest.raises(StoreError, match=f"{unversioned.bucket}.*AccessDenied"),
    ):
        unversioned.store.trash(unversioned.uri, CLAIM, manifest)
    assert unversioned.files() == FILES
    assert not unversioned.store.trashed(CLAIM)
    assert not unversioned.store.restore(unversioned.uri, CLAIM)
    require_untouched(unversioned, manifest)


@pytest.mark.parametrize("request_name", ["HeadObject", "DeleteObject"])
def test_originals_that_may_not_be_deleted_are_still_restorable(unversioned: House, request_name: str) -> None:
    manifest = unversioned.store.manifest(unversioned.uri)
    with (
        listening(unversioned.store, f"before-send.s3.{request_name}", error(403, "AccessDenied")),
        pytest.raises(StoreError, match="AccessDenied"),
    ):
        unversioned.store.trash(unversioned.uri, CLAIM, manifest)
    assert unversioned.store.trashed(CLAIM)
    assert unversioned.store.restore(unversioned.uri, CLAIM)
    require_untouched(unversioned, manifest)


def test_a_server_without_conditional_deletes_is_asked_plainly(unversioned: House) -> None:
    def only_conditional(request: object, **keywords: object) -> object:
        conditional = "If-Match" in getattr(request, "headers", {})
        return error(501, "NotImplemented")(request=request, **keywords) if conditional else None

    with listening(unversioned.store, "before-send.s3.DeleteObject", only_conditional):
        unversioned.evict()
    assert unversioned.files() == {}
    assert unversioned.store.restore(unversioned.uri, CLAIM)
    assert unversioned.files() == FILES


def test_one_key_that_is_refused_undoes_all(versioned: House) -> None:
    manifest = versioned.store.manifest(versioned.uri)
    keys = keys_of(versioned)
    body = deleted(*keys[1:], refused=((keys[0], "AccessDenied", "not this one"),))
    with (
        listening(versioned.store, DELETE_MANY, once_answered(200, body)),
        pytest.raises(StoreError, match=r"model\.pt.*AccessDenied \(not this one\)"),
    ):
        versioned.store.trash(versioned.uri, CLAIM, manifest)
    require_untouched(versioned, manifest)


@pytest.mark.parametrize("fault", ["missing", "both", "twice", "foreign"])
def test_a_key_that_is_not_answered_once_is_an_error(versioned: House, fault: str) -> None:
    manifest = versioned.store.manifest(versioned.uri)
    keys = keys_of(versioned)
    body = {
        "missing": deleted(*keys[1:]),
        "both": deleted(*keys, refused=((keys[0], "SlowDown", ""),)),
        "twice": deleted(*keys, keys[0]),
        "foreign": deleted(*keys, f"{versioned.root}experiment/trial-10/model.pt"),
    }[fault]
    with (
        listening(versioned.store, DELETE_MANY, once_answered(200, body)),
        pytest.raises(StoreError, match="did not say of each key"),
    ):
        versioned.store.trash(versioned.uri, CLAIM, manifest)
    require_untouched(versioned, manifest)


def test_a_server_that_says_deleted_and_deletes_nothing_is_found_out(versioned: House) -> None:
    manifest = versioned.store.manifest(versioned.uri)
    with (
        listening(versioned.store, DELETE_MANY, once_answered(200, deleted(*keys_of(versioned)))),
        pytest.raises(StoreError, match="though it said so"),
    ):
        versioned.store.trash(versioned.uri, CLAIM, manifest)
    require_untouched(versioned, manifest)


def test_keys_that_are_refused_for_now_are_tried_again(versioned: House) -> None:
    keys = keys_of(versioned)
    body = deleted(refused=tuple((key, "SlowDown", "later") for key in keys))
    singles: list[str] = []
    with (
        listening(versioned.store, DELETE_MANY, once_answered(200, body)),
        listening(versioned.store, "before-send.s3.DeleteObject", lambda request, **_: singles.append(request.url)),
    ):
        versioned.evict()
    assert len(singles) == len(keys)
    assert versioned.files() == {}
    assert versioned.store.restore(versioned.uri, CLAIM)
    assert versioned.files() == FILES


def test_a_server_that_insists_on_another_checksum_gets_key_by_key_deletes(house: House) -> None:
    with listening(house.store, DELETE_MANY, error(400, "MissingContentMD5")):
        manifest = house.evict()
        assert house.files() == {}
        assert house.store.restore(house.uri, CLAIM)
        assert house.files() == FILES
        house.store.trash(house.uri, CLAIM, manifest)
        house.store.purge(CLAIM, manifest)
    assert house.everything(house.prefix) == set()
    assert house.in_trash() == set()


@pytest.mark.parametrize(
    ("message", "error_class", "advice"),
    [
        ("protected by object lock", DeletionForbidden, "object lock or legal hold; lift that"),
        ("Mfa Authentication must be used for this request", DeletionForbidden, "MFA delete, which no program can"),
        ("Access Denied", AccessRefused, "these credentials have the right to it"),
    ],
)
def test_a_purge_that_is_refused_keeps_the_checkpoint_restorable(
    house: House, message: str, error_class: type[StoreError], advice: str
) -> None:
    manifest = house.evict()
    with (
        listening(house.store, DELETE_MANY, error(403, "AccessDenied", message)),
        pytest.raises(error_class, match=advice),
    ):
        house.store.purge(CLAIM, manifest)
    assert house.store.trashed(CLAIM)
    assert house.store.restore(house.uri, CLAIM)
    require_untouched(house, manifest)


def test_a_restore_that_is_refused_leaves_the_trash_as_it_is(versioned: House) -> None:
    manifest = versioned.evict()
    with (
        listening(versioned.store, DELETE_MANY, error(403, "AccessDenied")),
        pytest.raises(StoreError, match="AccessDenied"),
    ):
        versioned.store.restore(versioned.uri, CLAIM)
    assert versioned.files() == {}
    assert versioned.store.trashed(CLAIM)
    assert versioned.store.restore(versioned.uri, CLAIM)
    require_untouched(versioned, manifest)


def test_an_undo_that_is_refused_too_can_be_made_later(versioned: House) -> None:
    manifest = versioned.store.manifest(versioned.uri)
    numbers = itertools.count(1)

    def fail_after_the_first(**keywords: object) -> object:
        return None if next(numbers) == 1 else error(403, "AccessDenied")(**keywords)

    with (
        listening(versioned.store, DELETE_MANY, fail_after_the_first),
        listening(versioned.store, "before-send.s3.PutObject", second(error(403, "AccessDenied"))),
        pytest.raises(StoreError),
    ):
        versioned.store.trash(versioned.uri, CLAIM, manifest)
    assert versioned.store.trashed(CLAIM)
    assert versioned.store.restore(versioned.uri, CLAIM)
    require_untouched(versioned, manifest)


def second(handler: Callable[..., object]) -> Callable[..., object]:
    numbers = itertools.count(1)
    return lambda **keywords: None if next(numbers) == 1 else handler(**keywords)


def once_answered(status: int, body: str) -> Callable[..., object]:
    numbers = itertools.count(1)
    handler = answer(status, body)
    return lambda **keywords: handler(**keywords) if next(numbers) == 1 else None


@pytest.mark.usefixtures("s3_environment")
def test_a_bucket_that_is_gone_is_no_checkpoint_that_is_gone(s3_server: S3Server, house: House) -> None:
    bucket = s3_server.create_bucket("unversioned")
    store = open_store(f"s3://{bucket}/hpo/")
    s3_server.client.delete_bucket(Bucket=bucket)
    uri = f"s3://{bucket}/hpo/trial-1/"
    manifest = house.store.manifest(house.uri)
    for act in (
        lambda: store.manifest(uri),
        lambda: store.trash(uri, CLAIM, manifest),
        lambda: store.restore(uri, CLAIM),
        lambda: store.purge(CLAIM, manifest),
        lambda: store.trashed(CLAIM),
        store.marks,
    ):
        with pytest.raises(StoreError, match=f"bucket {bucket}.*no such bucket") as refusal:
            act()
        assert type(refusal.value) is StoreError
    with pytest.raises(StoreError, match=f"bucket {bucket}.*"):
        store.mark(CLAIM)


@pytest.mark.usefixtures("s3_environment")
def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTA_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"bucket nowhere.*127\.0\.0\.1:9.*check the endpoint"):
        open_store("s3://nowhere/hpo/").marks()


@pytest.mark.usefixtures("s3_environment")
def test_a_server_that_takes_requests_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTA_S3_READ_TIMEOUT", "0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("QUOTA_S3_ENDPOINT_URL", "http://{}:{}".format(*silent.getsockname()))
        before = monotonic()
        with pytest.raises(StoreError, match=r"bucket hpo.*[Tt]imeout.*check the endpoint.*QUOTA_S3_READ_TIMEOUT"):
            open_store("s3://hpo/prefix/").own_mark()
        assert monotonic() - before < 10


@pytest.mark.usefixtures("s3_environment")
def test_every_request_says_who_must_own_the_bucket(
    monkeypatch: pytest.MonkeyPatch, new_house: Callable[[Kind], House], kind: Kind
) -> None:
    monkeypatch.setenv("QUOTA_S3_EXPECTED_BUCKET_OWNER", "123456789012")
    house = new_house(kind)
    without: list[str] = []
    seen: set[str] = set()

    def look(request: object, event_name: str, **_: object) -> None:
        headers = getattr(request, "headers", {})
        seen.add(event_name)
        if headers.get("x-amz-expected-bucket-owner") != b"123456789012":
            without.append(event_name)
        if "x-amz-copy-source" in headers and headers.get("x-amz-source-expected-bucket-owner") != b"123456789012":
            without.append(event_name)

    with listening(house.store, "before-send.s3", look):
        house.store.mark(CLAIM)
        manifest = house.evict()
        house.store.restore(house.uri, CLAIM)
        house.store.trash(house.uri, CLAIM, manifest)
        house.store.purge(CLAIM, manifest)
        house.store.marks()
    assert len(seen) >= 6
    assert without == []
    house.client.delete_object(Bucket=house.bucket, Key=f"{house.root}.trash/.store")
    house.neighbours = house.beside()


def test_a_bucket_of_another_owner_is_left_alone(monkeypatch: pytest.MonkeyPatch, house: House) -> None:
    manifest = house.store.manifest(house.uri)
    monkeypatch.setenv("QUOTA_S3_EXPECTED_BUCKET_OWNER", "123456789012")
    house.store = house.opened()

    def refuse_expectation(request: object, **keywords: object) -> object:
        expects = getattr(request, "headers", {}).get("x-amz-expected-bucket-owner") == b"123456789012"
        return error(403, "AccessDenied")(request=request, **keywords) if expects else None

    for act in (
        lambda: house.store.manifest(house.uri),
        lambda: house.store.trash(house.uri, CLAIM, manifest),
        lambda: house.store.restore(house.uri, CLAIM),
        lambda: house.store.purge(CLAIM, manifest),
        lambda: house.store.mark(CLAIM),
        house.store.own_mark,
        house.store.claims,
    ):
        with (
            listening(house.store, "before-send.s3", refuse_expectation),
            pytest.raises(AccessRefused, match=f"bucket {house.bucket}.*QUOTA_S3_EXPECTED_BUCKET_OWNER"),
        ):
            act()
    assert house.files() == FILES


@pytest.mark.usefixtures("s3_environment")
def test_a_bucket_whose_versioning_is_suspended_takes_no_new_trash(s3_server: S3Server) -> None:
    bucket = s3_server.create_bucket("versioned")
    house = House(s3_server.client, bucket, "versioned")
    manifest = house.evict()
    other = house.uri.replace("trial-1/", "trial-10/")
    s3_server.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    with pytest.raises(StoreError, match="enable versioning again"):
        house.store.trash(other, f"{CLAIM}-2", house.store.manifest(other))
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES
    s3_server.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    house.store.trash(house.uri, CLAIM, manifest)
    s3_server.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    house.store.purge(CLAIM, manifest)
    assert house.everything(house.prefix) == set()
    assert house.beside() == house.neighbours


@pytest.mark.usefixtures("s3_environment")
@pytest.mark.parametrize("end", ["restore", "purge"])
def test_copies_are_found_again_after_versioning_was_enabled(s3_server: S3Server, end: str) -> None:
    bucket = s3_server.create_bucket("unversioned")
    house = House(s3_server.client, bucket, "unversioned")
    manifest = house.evict()
    s3_server.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    house.kind = "versioned"
    if end == "restore":
        assert house.store.restore(house.uri, CLAIM)
        assert house.files() == FILES
    else:
        house.store.purge(CLAIM, manifest)
        assert house.everything(house.prefix) == set()
    assert house.in_trash() == set()


def test_stores_share_no_client(house: House) -> None:
    assert client_of(house.store) is not client_of(house.opened())

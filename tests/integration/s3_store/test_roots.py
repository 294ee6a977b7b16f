"""What may be a store, what may be a checkpoint, and how a bucket is reached."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

import quota_s3
from integration.s3_store.house import CLAIM, OTHER_CLAIM, House, client_of, error, listening
from quota.domain.deployment import Store
from quota.domain.manifest import Manifest
from quota.errors import PathRefused, SettingsRefused, StoreError
from quota.ports import Marks
from quota.services.stores import require_mark
from quota_s3 import open_store
from quota_s3.clients import make_client
from quota_s3.settings import BucketSettings
from support import START

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3_servers import Kind


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://bucket", "needs a path"),
        ("s3://bucket/", "a whole bucket is no store"),
        ("s3:///prefix/", "names its bucket"),
        ("s3://bucket/prefix", "a prefix ends in `/`"),
        ("s3://bucket//", "one spelling only"),
        ("s3://bucket//prefix/", "empty component"),
        ("s3://bucket/a/../b/", "are not followed"),
        ("s3://bucket/a/.trash/", "is reserved"),
        ("s3://bucket/%FF/", "keys are UTF-8"),
        ("file:///scratch/hpo", "s3://bucket/prefix/"),
        ("bucket/prefix/", "absolute URI"),
    ],
)
def test_what_no_store_can_be_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(PathRefused, match=reason):
        open_store(uri)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "not strictly below"),
        ("experiment/trial-1", "a prefix ends in `/`"),
        ("experiment//", "empty component"),
        ("/", "empty component"),
        ("%FF/", "keys are UTF-8"),
        (".trash/", "is reserved"),
        (f".trash/{CLAIM}.d/", "is reserved"),
    ],
)
def test_what_no_checkpoint_can_be_is_refused_before_any_request(house: House, name: str, reason: str) -> None:
    uri = f"s3://{house.bucket}/{house.root}{name}"
    with listening(house.store, "before-send.s3", error(500, "NoRequestIsExpected")):
        for act in (
            lambda: house.store.manifest(uri),
            lambda: house.store.trash(uri, CLAIM, Manifest()),
            lambda: house.store.restore(uri, CLAIM),
        ):
            with pytest.raises(PathRefused, match=reason):
                act()


def test_another_bucket_is_refused(house: House) -> None:
    with pytest.raises(PathRefused, match="not strictly below"):
        house.store.manifest(house.uri.replace(house.bucket, "another"))


@pytest.mark.usefixtures("s3_environment")
def test_the_marks_above_are_those_of_prefixes_that_hold_the_root(house: House) -> None:
    inner = open_store(f"s3://{house.bucket}/{house.root}experiment/")
    beside = open_store(f"s3://{house.bucket}/{house.root}exp/")
    beside.mark("beside")
    assert inner.marks() == Marks(None, ("canary",))
    inner.mark(OTHER_CLAIM)
    assert inner.marks() == Marks(OTHER_CLAIM, ("canary",))
    assert house.store.marks() == Marks("canary", ())
    house.client.put_object(Bucket=house.bucket, Key=".trash/.store", Body=b"whole\n")
    assert inner.marks().above == ("canary", "whole")
    house.client.delete_object(Bucket=house.bucket, Key=".trash/.store")
    house.neighbours = house.beside()


def test_whether_a_root_is_the_one_that_is_meant_takes_one_request_however_deep_it_lies(house: House) -> None:
    asked: list[str] = []
    with listening(house.store, "before-send.s3", lambda request, **_: asked.append(str(request.url))):
        require_mark(house.store, Store(f"s3://{house.bucket}/{house.root}", "canary", START, "operator"))
    assert [url.partition(house.bucket)[2] for url in asked] == [f"/{house.root}.trash/.store"]


def test_a_mark_above_that_may_not_be_read_is_passed_over_and_the_own_one_not(house: House) -> None:
    def forbid_above(request: object, **keywords: object) -> object:
        url = str(getattr(request, "url", ""))
        return None if house.root in url else error(403, "AccessDenied")(request=request, **keywords)

    with listening(house.store, "before-send.s3.GetObject", forbid_above):
        assert house.store.marks() == Marks("canary", ())
    with (
        listening(house.store, "before-send.s3.GetObject", error(403, "AccessDenied")),
        pytest.raises(StoreError, match="AccessDenied"),
    ):
        house.store.marks()


def test_settings_of_a_bucket_come_before_those_of_all() -> None:
    environment = {
        "QUOTA_S3_ENDPOINT_URL": "https://s3.example.org",
        "QUOTA_S3_REGION": "eu-west-1",
        "QUOTA_S3_PATH_STYLE": "no",
        "QUOTA_S3_MY_DATA_1_ENDPOINT_URL": "http://10.0.0.1:9000",
        "QUOTA_S3_MY_DATA_1_PATH_STYLE": "True",
        "QUOTA_S3_MY_DATA_1_EXPECTED_BUCKET_OWNER": "123456789012",
        "QUOTA_S3_MY_DATA_1_CONNECT_TIMEOUT": "0.5",
        "QUOTA_S3_READ_TIMEOUT": "120",
    }
    assert BucketSettings.of("my.data-1", environment) == BucketSettings(
        endpoint_url="http://10.0.0.1:9000",
        region="eu-west-1",
        expected_owner="123456789012",
        path_style=True,
        connect_timeout_seconds=0.5,
        read_timeout_seconds=120.0,
    )
    assert BucketSettings.of("other", environment) == BucketSettings(
        endpoint_url="https://s3.example.org",
        region="eu-west-1",
        expected_owner=None,
        path_style=False,
        connect_timeout_seconds=5.0,
        read_timeout_seconds=120.0,
    )
    assert BucketSettings.of("other", {"QUOTA_S3_REGION": " "}) == BucketSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUOTA_S3_ENDPOINT_URL", "s3.example.org"),
        ("QUOTA_S3_HPO_ENDPOINT_URL", "ftp://s3.example.org"),
        ("QUOTA_S3_EXPECTED_BUCKET_OWNER", "somebody"),
        ("QUOTA_S3_HPO_PATH_STYLE", "maybe"),
        *(("QUOTA_S3_READ_TIMEOUT", value) for value in ("soon", "0", "-1", "nan", "inf", "1e999", "30s", "3601")),
        ("QUOTA_S3_HPO_CONNECT_TIMEOUT", "0.0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsRefused, match=f"{name}.*{value}"):
        open_store("s3://hpo/prefix/")


@pytest.mark.parametrize(
    ("path_style", "url"), [(True, "https://s3.example.org/hpo/key"), (False, "https://hpo.s3.example.org/key")]
)
def test_a_client_does_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, new_house: Callable[[Kind], House], *, path_style: bool, url: str
) -> None:
    assert new_house
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no-secret")
    settings = BucketSettings(endpoint_url="https://s3.example.org", region="eu-west-1", path_style=path_style)
    client = make_client("hpo", settings)
    signed = client.generate_presigned_url("get_object", Params={"Bucket": "hpo", "Key": "key"})
    assert signed.startswith(f"{url}?")
    assert client.meta.region_name == "eu-west-1"
    config = vars(client.meta.config)
    assert config["retries"] == {"mode": "standard", "total_max_attempts": 3}
    assert (config["connect_timeout"], config["read_timeout"]) == (5, 30)
    quick = BucketSettings(region="eu-west-1", connect_timeout_seconds=0.5, read_timeout_seconds=2)
    config = vars(make_client("hpo", quick).meta.config)
    assert (config["connect_timeout"], config["read_timeout"]) == (0.5, 2)


@pytest.mark.usefixtures("s3_environment")
def test_the_entry_point_opens_a_store(house: House) -> None:
    opened = EntryPoint("s3", "quota_s3:open_store", "quota.stores").load()
    assert opened is quota_s3.open_store
    assert client_of(opened(f"s3://{house.bucket}/{house.root}")).meta.endpoint_url.startswith("http://127.0.0.1:")

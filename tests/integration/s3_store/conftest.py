"""Fixtures of the S3 store's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import quota_s3.store
from integration.s3_store.house import MOST_KEYS, House
from quota_s3.clients import make_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

    from quota_s3.settings import BucketSettings
    from s3_servers import Kind, S3Server


@pytest.fixture(params=["versioned", "unversioned"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of bucket in turn."""
    found: Kind = request.param
    return found


@pytest.fixture(autouse=True)
def _no_request_names_too_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every store's client refuse what a strict server would: not all of them do."""

    def require_few(params: dict[str, object], **_: object) -> None:
        deletion = params.get("Delete")
        keys = len(deletion["Objects"]) if isinstance(deletion, dict) else 0
        assert keys <= MOST_KEYS, f"a request names {keys} keys"

    def make(bucket: str, settings: BucketSettings) -> S3Client:
        client = make_client(bucket, settings)
        client.meta.events.register("before-parameter-build.s3.DeleteObjects", require_few)
        return client

    monkeypatch.setattr(quota_s3.store, "make_client", make)


@pytest.fixture
def new_house(
    s3_server: S3Server, s3_buckets: dict[Kind, str], request: pytest.FixtureRequest
) -> Iterator[Callable[[Kind], House]]:
    """Make stores with one checkpoint each, and neighbours that nothing may ever touch."""
    request.getfixturevalue("s3_environment")
    houses: list[House] = []

    def make(kind: Kind) -> House:
        houses.append(House(s3_server.client, s3_buckets[kind], kind))
        return houses[-1]

    yield make
    for house in houses:
        assert house.beside() == house.neighbours


@pytest.fixture
def house(new_house: Callable[[Kind], House], kind: Kind) -> House:
    return new_house(kind)


@pytest.fixture
def versioned(new_house: Callable[[Kind], House]) -> House:
    return new_house("versioned")


@pytest.fixture
def unversioned(new_house: Callable[[Kind], House]) -> House:
    return new_house("unversioned")

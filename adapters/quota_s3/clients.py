"""The client through which all requests go, set up so that none of them can forget what was configured."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader

from quota.errors import StoreError
from quota_s3.fencing import require_leave
from quota_s3.parallel import WORKERS
from quota_s3.settings import BucketSettings

if TYPE_CHECKING:
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client

_MOST_ATTEMPTS = 3
_OWNER_PARAMETERS = ("ExpectedBucketOwner", "ExpectedSourceBucketOwner")


def make_client(bucket: str, settings: BucketSettings) -> S3Client:
    """Return a client for `bucket`, as `settings` say and else as boto3 is configured.

    Raises:
        StoreError: boto3 lacks something, such as a region.
    """
    styles: Mapping[bool | None, Literal["auto", "path", "virtual"]] = {None: "auto", True: "path", False: "virtual"}
    config = Config(
        # Said in so many words: botocore's own timeouts, and the attempts of a profile, may hold a lock for minutes.
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": _MOST_ATTEMPTS},
        s3={"addressing_style": styles[settings.path_style]},
        max_pool_connections=WORKERS,
    )
    try:
        client = _session().client("s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config)
    except (BotoCoreError, ValueError) as error:
        advice = "set QUOTA_S3_ENDPOINT_URL and QUOTA_S3_REGION, or what boto3 reads (AWS_REGION, ~/.aws/config)"
        raise StoreError(f"bucket {bucket}: no client can be made: {error}; {advice}") from error
    client.meta.events.register("before-send.s3", require_leave)
    owner = settings.expected_owner
    if owner is not None:
        client.meta.events.register("before-parameter-build.s3", _OwnerNamed(owner))
    return client


@cache
def _loader() -> Loader:
    """Return what reads the description of S3, which takes ten times as long as all else about a client."""
    loader: Loader = botocore.session.get_session().get_component("data_loader")
    return loader


def _session() -> boto3.session.Session:
    """Return a session of its own, so that credentials are looked for anew."""
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    return boto3.session.Session(botocore_session=session)


class _OwnerNamed:
    """Adds the expected owner to the parameters of every request that can carry it."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def __call__(self, params: dict[str, object], model: OperationModel, **_: object) -> None:
        members = model.input_shape.members if model.input_shape is not None else {}
        params.update({name: self._owner for name in _OWNER_PARAMETERS if name in members})

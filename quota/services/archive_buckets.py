"""How archives reach a bucket: by pyarrow, with the settings that stores are reached by."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

_ENDPOINTS = ("QUOTA_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("QUOTA_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
_CONNECT_SECONDS = 5
_REQUEST_SECONDS = 60


@cache
def bucket_file_system(bucket: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return what reads and writes a bucket. Credentials are found as the AWS tools find them.

    Raises:
        OSError: the bucket's region is told by nobody.
    """
    from pyarrow import fs  # noqa: PLC0415 - an extra

    endpoint, region = _first(_ENDPOINTS), _first(_REGIONS)
    if endpoint is not None:
        # Pyarrow does not look for it. And servers that are not Amazon's often refuse the checksums that newer clients
        # send behind the body; what was written is read back whole, and compared by SHA-256, anyway.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    elif region is None:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region or "us-east-1",
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
    )


def _first(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)

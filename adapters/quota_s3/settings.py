"""How a bucket is reached: `QUOTA_S3_*` variables, parsed once. Credentials are found by boto3's own chain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from quota.errors import SettingsRefused

_PREFIX = "QUOTA_S3_"
_NO_VARIABLE = re.compile(r"[^A-Z0-9]")
_ENDPOINT = re.compile(r"https?://[^/\s?#]+(/[^\s?#]*)?")
_OWNER = re.compile(r"\d{12}")
_SECONDS = re.compile(r"\d{1,4}(\.\d{1,6})?")
_MOST_SECONDS = 3_600
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0
_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSettings:
    """What one bucket needs besides credentials; what is None is left to boto3's own configuration.

    Attributes:
        endpoint_url: Where the server is, for a server that is not Amazon's.
        region: The region that requests are signed for.
        expected_owner: The account that must own the bucket; every request says so.
        path_style: Whether the bucket's name stands in the path of a request, not in the host's name.
        connect_timeout_seconds: How long a connection may take.
        read_timeout_seconds: How long the server may be silent. Short, for what waits may hold a lock that tuners need;
            but some servers say nothing until they have copied an object.
    """

    endpoint_url: str | None = None
    region: str | None = None
    expected_owner: str | None = None
    path_style: bool | None = None
    connect_timeout_seconds: float = _CONNECT_SECONDS
    read_timeout_seconds: float = _READ_SECONDS

    @classmethod
    def of(cls, bucket: str, environment: Mapping[str, str]) -> BucketSettings:
        """Read the settings of `bucket`: its own variables come before those of all buckets.

        `QUOTA_S3_REGION` is the region of all buckets, `QUOTA_S3_MY_DATA_REGION` that of the bucket `my-data`. Two
        buckets whose names differ only in `.` and `-` share their variables.

        Raises:
            SettingsRefused: a variable cannot be used.
        """
        variables = _Variables(bucket, environment)
        return cls(
            endpoint_url=variables.matching("ENDPOINT_URL", _ENDPOINT, "write a URL, e.g. https://s3.example.org"),
            region=variables.value("REGION")[1],
            expected_owner=variables.matching("EXPECTED_BUCKET_OWNER", _OWNER, "an account's id has twelve digits"),
            path_style=variables.switch("PATH_STYLE"),
            connect_timeout_seconds=variables.seconds("CONNECT_TIMEOUT", _CONNECT_SECONDS),
            read_timeout_seconds=variables.seconds("READ_TIMEOUT", _READ_SECONDS),
        )


@dataclass(frozen=True, slots=True)
class _Variables:
    bucket: str
    environment: Mapping[str, str]

    def value(self, suffix: str) -> tuple[str, str | None]:
        own = f"{_PREFIX}{_NO_VARIABLE.sub('_', self.bucket.upper())}_{suffix}"
        shared = f"{_PREFIX}{suffix}"
        for name in (own, shared):
            value = self.environment.get(name, "").strip()
            if value:
                return name, value
        return own, None

    def matching(self, suffix: str, pattern: re.Pattern[str], advice: str) -> str | None:
        name, value = self.value(suffix)
        if value is not None and pattern.fullmatch(value) is None:
            raise SettingsRefused("environment", name, value, advice)
        return value

    def seconds(self, suffix: str, default: float) -> float:
        name, value = self.value(suffix)
        if value is None:
            return default
        if _SECONDS.fullmatch(value) is None or not 0 < float(value) <= _MOST_SECONDS:
            raise SettingsRefused(
                "environment", name, value, f"write a number of seconds, above 0 and up to {_MOST_SECONDS}"
            )
        return float(value)

    def switch(self, suffix: str) -> bool | None:
        name, value = self.value(suffix)
        if value is None:
            return None
        if value.lower() not in _SWITCH:
            raise SettingsRefused("environment", name, value, "write `true` or `false`")
        return _SWITCH[value.lower()]

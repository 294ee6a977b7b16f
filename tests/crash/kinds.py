"""The kinds of databases and stores that crashes and races are tried on, and how to make another one of each."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args
from uuid import uuid4

import quota_s3.copying
import quota_s3.store
from crash.media import LEAST_BYTES, MOST_BYTES, LocalMedium, S3Medium
from crash.points import StoreKind
from quota_s3.settings import BucketSettings
from s3_servers import S3Server
from servers import template_for
from support import create_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from crash.media import Medium
    from s3_servers import Kind
    from servers import PostgresqlServer

DatabaseKind = Literal["sqlite", "postgresql"]
STORE_NAMES = ("s3", *get_args(StoreKind))
"""As a user names them."""


def databases_named(names: Sequence[str] | None) -> list[DatabaseKind]:
    """Return the kinds of databases that a user names; all where none is named."""
    kinds: tuple[DatabaseKind, ...] = get_args(DatabaseKind)
    return [kind for kind in kinds if not names or kind in names]


def stores_named(names: Sequence[str] | None) -> list[StoreKind]:
    """Return the kinds of stores that a user names; all where none is named."""
    kinds: tuple[StoreKind, ...] = get_args(StoreKind)
    return [kind for kind in kinds if not names or kind in names or kind.partition("-")[0] in names]


def sqlite_maker(folder: Path) -> Callable[[], str]:
    """Return what makes SQLite databases with all tables."""
    template = folder / "template.db"
    create_schema(f"sqlite:///{template}")
    names = iter(range(10**6))

    def make() -> str:
        copy = shutil.copy(template, folder / f"{next(names)}.db")
        return f"sqlite:///{copy}"

    return make


def postgresql_maker(server: PostgresqlServer) -> Callable[[], str]:
    """Return what makes PostgreSQL databases with all tables."""
    template = template_for(server, create_schema)
    return lambda: server.create_database(template=template)


def local_maker() -> Callable[[Path], Medium]:
    """Return what makes disks, each in a folder."""
    return lambda folder: LocalMedium(folder / "root")


def s3_maker(server: S3Server, kind: Kind, bucket: str) -> Callable[[Path], Medium]:
    """Return what makes prefixes in a bucket, each for one folder's work."""

    def make(folder: Path) -> Medium:
        medium = S3Medium(server, kind, bucket, f"{folder.name}-{uuid4().hex[:8]}/hpo/")
        # Made here, and used by forked processes only, each of which then has connections of its own.
        _ = medium.client
        return medium

    return make


def medium_at(root_uri: str) -> Medium:
    """Return the disk or the prefix at a store's root, for a process that did not make it."""
    scheme, _, rest = root_uri.partition("://")
    if scheme == "file":
        return LocalMedium(Path(rest))
    bucket, _, prefix = rest.partition("/")
    kind = cast("Kind", bucket.partition("-")[0])
    return S3Medium(S3Server(os.environ["QUOTA_S3_ENDPOINT_URL"]), kind, bucket, prefix)


def kind_of_bucket(store: StoreKind) -> Kind:
    """Return which buckets a kind of S3 stores lies in."""
    return cast("Kind", store.removeprefix("s3-"))


def make_ready_for_s3(patch: pytest.MonkeyPatch, server: S3Server, bucket: str) -> None:
    """Let this process, and all that it forks, find a bucket, and split large objects, which here are the larger half.

    The client is made once, as that takes longer than most of what is done by it. Only forked processes may use it:
    before it is used it has no connections to be shared. Parts are as large as ever, since no server takes small ones
    but at the end, so each large object is a single part.
    """
    for name, value in server.environment().items():
        patch.setenv(name, value)
    make_client = cache(quota_s3.store.make_client)
    make_client(bucket, BucketSettings.of(bucket, os.environ))
    patch.setattr(quota_s3.store, "make_client", make_client)
    patch.setattr(quota_s3.copying, "MOST_AT_ONCE_BYTES", (LEAST_BYTES + MOST_BYTES) // 2)

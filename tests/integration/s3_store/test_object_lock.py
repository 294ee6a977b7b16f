"""What is locked can be hidden, but not deleted: on a server that keeps to that."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from moto.server import ThreadedMotoServer

from integration.s3_store.house import CLAIM, FILES, House
from quota.errors import DeletionForbidden
from s3_servers import S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A checkpoint in a bucket with object lock, one object of it under legal hold."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        server = S3Server("http://{}:{}".format(*moto.get_host_and_port()))
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        bucket = f"locked-{uuid.uuid4().hex[:8]}"
        server.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        house = House(server.client, bucket, "versioned")
        house.client.put_object_legal_hold(Bucket=bucket, Key=f"{house.prefix}model.pt", LegalHold={"Status": "ON"})
        yield house
    finally:
        moto.stop()


def test_what_is_under_legal_hold_is_not_purged_until_that_is_lifted(locked: House) -> None:
    manifest = locked.evict()
    with pytest.raises(DeletionForbidden, match=r"model\.pt.*object lock or legal hold; lift that"):
        locked.store.purge(CLAIM, manifest)
    assert locked.store.trashed(CLAIM)
    version = next(entry.version for entry in manifest.entries if entry.path == "model.pt")
    held = locked.client.get_object(Bucket=locked.bucket, Key=f"{locked.prefix}model.pt", VersionId=version)
    assert held["Body"].read() == FILES["model.pt"]
    locked.client.put_object_legal_hold(
        Bucket=locked.bucket, Key=f"{locked.prefix}model.pt", VersionId=version, LegalHold={"Status": "OFF"}
    )
    locked.store.purge(CLAIM, manifest)
    assert locked.everything(locked.prefix) == set()
    assert locked.beside() == locked.neighbours

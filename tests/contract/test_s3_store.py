from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from quota.testing.store_contract import CheckpointStoreContract, Files
from quota_s3 import S3Store, open_store
from quota_s3.bucket import Bucket

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

    from quota.ports import CheckpointStore
    from s3_servers import Kind, S3Server


@pytest.mark.usefixtures("s3_environment")
class S3Contract(CheckpointStoreContract):
    kind: Kind

    @pytest.fixture(autouse=True)
    def _server(self, s3_server: S3Server, s3_buckets: dict[Kind, str]) -> None:
        self.client: S3Client = s3_server.client
        self.bucket = s3_buckets[self.kind]

    @pytest.fixture
    def store_root_uri(self) -> str:
        return f"s3://{self.bucket}/{uuid.uuid4().hex}/hpo/"

    @pytest.fixture
    def store(self, store_root_uri: str) -> S3Store:
        return open_store(store_root_uri)

    def write_checkpoint(self, store: CheckpointStore, uri: str, files: Files) -> None:
        assert isinstance(store, S3Store)
        prefix = self._prefix(uri)
        before = self._seen(prefix)
        for key in before.keys() - {prefix + name for name in files}:
            self.client.delete_object(Bucket=self.bucket, Key=key)
        for name, content in files.items():
            self.client.put_object(Bucket=self.bucket, Key=prefix + name, Body=content)
            # Without versions, equal content that is written within one second is one and the same to any listing.
            while self.kind == "unversioned" and before.get(prefix + name) == self._seen(prefix)[prefix + name]:
                self.client.put_object(Bucket=self.bucket, Key=prefix + name, Body=content)

    def read_checkpoint(self, store: CheckpointStore, uri: str) -> dict[str, bytes] | None:
        assert isinstance(store, S3Store)
        prefix = self._prefix(uri)
        found = {
            key.removeprefix(prefix): self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            for key in self._seen(prefix)
        }
        return found or None

    def _prefix(self, uri: str) -> str:
        return uri.removeprefix(f"s3://{self.bucket}/")

    def _seen(self, prefix: str) -> dict[str, tuple[str, datetime]]:
        return {item.key: (item.etag, item.modified_at) for item in Bucket(self.bucket, self.client).objects(prefix)}


class TestVersionedBucket(S3Contract):
    kind = "versioned"


class TestUnversionedBucket(S3Contract):
    kind = "unversioned"

"""An experiment that can be archived, and where its archive may lie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from quota.domain.events import CheckpointMissing, ExperimentFinished, TrialReported
from quota.eventlog.tables import events
from quota.services.sweep_order import SweepOrder
from sweeps import BY_LEVEL, Sweeps, uri_of

if TYPE_CHECKING:
    from quota.bootstrap import Services
    from s3_servers import S3Server

AT_ONCE = SweepOrder(BY_LEVEL, timedelta())


def silent(_: int) -> None:
    """Tell nobody."""


def finish_with_nothing_left(sweeps: Sweeps) -> None:
    """Evict and purge two of four, lose the others, and end the experiment."""
    sweeps.prepare(4, high=3, low=2)
    sweeps.sweep(AT_ONCE)
    for trial_id in ("1", "2", "3", "4"):
        sweeps.send(TrialReported(trial_id=trial_id, resource=3, metric=float("nan")))
        if sweeps.checkpoint(trial_id).state == "stored":
            sweeps.send(CheckpointMissing(trial_id=trial_id, uri=uri_of(trial_id)))
    sweeps.send(ExperimentFinished())
    sweeps.services.queries.catch_up(["x"])


def rows_of(services: Services, experiment_id: str = "x") -> list[tuple[Any, ...]]:
    """Return all that the log has of a stream, but for the database's own numbers."""
    columns = [column for column in events.c if column.name != "global_position"]
    query = select(*columns).where(events.c.experiment_id == experiment_id).order_by(events.c.position)
    with services.database.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


@dataclass(frozen=True)
class DirectoryShelf:
    """Archives lie in a directory."""

    path: Path

    @property
    def uri(self) -> str:
        return self.path.as_uri()

    def names(self) -> list[str]:
        return sorted(str(one.relative_to(self.path)) for one in self.path.rglob("*") if one.is_file())

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes | None) -> None:
        if content is None:
            (self.path / name).unlink()
        else:
            (self.path / name).write_bytes(content)


@dataclass(frozen=True)
class BucketShelf:
    """Archives lie below a prefix."""

    server: S3Server
    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def names(self) -> list[str]:
        found = self.server.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix).get("Contents", [])
        return sorted(one["Key"].removeprefix(self.prefix) for one in found if "Key" in one)

    def read(self, name: str) -> bytes:
        return self.server.client.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"].read()

    def write(self, name: str, content: bytes | None) -> None:
        if content is None:
            self.server.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)
        else:
            self.server.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=content)


Shelf = DirectoryShelf | BucketShelf

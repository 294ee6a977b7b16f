"""A log that knows less than its stores hold, since it lags behind or is an older copy, takes away nothing newer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from crash.media import LocalMedium, Medium, S3Medium
from quota.bootstrap import Services, open_store
from quota.client import ExperimentHandle
from quota.domain.events import CheckpointSaved, ExperimentRegistered, LimitSet, PolicyParameters
from quota.services.sweep_order import SweepOrder
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT_ONCE = SweepOrder(PolicyParameters(policy="by_level"), timedelta())
NEWEST = {"number": 2}


@pytest.fixture(params=["local", "s3"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Medium:
    """Where trials write, on each kind of store in turn."""
    if request.param == "local":
        return LocalMedium(tmp_path / "disk")
    request.getfixturevalue("s3_environment")
    buckets = request.getfixturevalue("s3_buckets")
    return S3Medium(request.getfixturevalue("s3_server"), buckets["unversioned"], f"{tmp_path.name}/")


@dataclass
class Deployment:
    """An experiment `x` whose files lie in `medium`."""

    services: Services
    medium: Medium
    told_at: datetime

    @property
    def handle(self) -> ExperimentHandle:
        return ExperimentHandle(self.services, "tuner", "x")

    def prepare(self, *trial_ids: str) -> None:
        """Pause trials, the first one being the worst; and set a limit of one checkpoint."""
        self.medium.prepare()
        self.services.administration.add_store(self.medium.root_uri)
        self.services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=1, low=1))
        registered = ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9)
        self.handle.record(registered, self.told_at)
        for number, trial_id in enumerate(trial_ids):
            self.handle.trial_started(trial_id, occurred_at=self.told_at)
            self.write(trial_id)
            self.save(trial_id)
            self.handle.trial_paused(trial_id, level=1, metric=-float(number), occurred_at=self.told_at)

    def uri(self, trial_id: str) -> str:
        return self.medium.uri(trial_id, "a")

    def write(self, trial_id: str, number: int = 1) -> None:
        self.medium.write(self.uri(trial_id), {"number": number})

    def save(self, trial_id: str) -> None:
        saved = CheckpointSaved(trial_id=trial_id, uri=self.uri(trial_id), size_bytes=1, resource=1)
        self.handle.record(saved, self.told_at)


@pytest.fixture
def deployment(database_url: str, medium: Medium) -> Iterator[Deployment]:
    """One whose log was told of an hour ago, while its files are written now."""
    create_schema(database_url)
    with services_over(database_url, HandClock(), open_store) as services:
        yield Deployment(services, medium, datetime.now(UTC) - timedelta(hours=1))


def test_what_a_paused_trial_has_written_since_it_saved_is_left_alone(deployment: Deployment) -> None:
    deployment.prepare("1", "2")
    deployment.write("1", number=2)
    report = deployment.services.sweeper.sweep(["x"], AT_ONCE)
    assert (report.tally.decided, report.exceeded, report.held_back) == (0, ["x"], {"x": {"in_use": 2}})
    assert deployment.medium.read(deployment.uri("1")) == NEWEST
    (first, _) = report.left_alone
    assert f"checkpoint {deployment.uri('1')}: it was written to at " in first
    assert "though trial 1 is paused" in first
    with deployment.services.database.read() as connection:
        finished = deployment.services.log.last_of_type(connection, "_deployment", "sweep_finished")
    assert finished is not None
    assert getattr(finished.payload, "errors", ()) == tuple(report.left_alone)


def test_what_was_left_alone_goes_once_its_trial_has_saved_it_again(deployment: Deployment) -> None:
    deployment.prepare("1", "2")
    deployment.services.sweeper.sweep(["x"], AT_ONCE)
    deployment.told_at = datetime.now(UTC) + timedelta(minutes=1)
    deployment.save("1")
    report = deployment.services.sweeper.sweep(["x"], AT_ONCE)
    assert (report.tally.purged, report.exceeded) == (1, [])
    assert deployment.medium.read(deployment.uri("1")) is None
    assert deployment.medium.read(deployment.uri("2")) == {"number": 1}

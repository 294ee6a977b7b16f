"""A log that knows less than its stores hold, since it lags behind or is an older copy, takes away nothing newer."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select

from crash.media import LocalMedium, Medium, S3Medium
from quota.bootstrap import Services, open_store
from quota.client import ExperimentHandle
from quota.domain.events import CheckpointSaved, ExperimentRegistered, LimitSet, PolicyParameters
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.mark import Mark, parse_mark
from quota.errors import StateRefused
from quota.eventlog.tables import metadata
from quota.services.sweep_order import SweepOrder, SweepReport
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

AT_ONCE = SweepOrder(PolicyParameters(policy="by_level"), timedelta())
KEEP = SweepOrder(PolicyParameters(policy="by_level"), timedelta(days=1))
NEWEST = {"number": 2}


@pytest.fixture(params=["local", "s3"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Medium:
    """Where trials write, on each kind of store in turn."""
    if request.param == "local":
        return LocalMedium(tmp_path / "disk")
    request.getfixturevalue("s3_environment")
    buckets = request.getfixturevalue("s3_buckets")
    server = request.getfixturevalue("s3_server")
    return S3Medium(server, "unversioned", buckets["unversioned"], f"{tmp_path.name}/")


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
        self.limit(1)
        registered = ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9)
        self.handle.record(registered, self.told_at)
        for number, trial_id in enumerate(trial_ids):
            self.handle.trial_started(trial_id, occurred_at=self.told_at)
            self.write(trial_id)
            self.save(trial_id)
            self.handle.trial_paused(trial_id, level=1, metric=-float(number), occurred_at=self.told_at)

    def limit(self, most: int) -> None:
        self.services.administration.set_limit(
            LimitSet(scope="experiments", measure="checkpoints", high=most, low=most)
        )

    def sweep(self, order: SweepOrder = KEEP) -> SweepReport:
        return self.services.sweeper.sweep(["x"], order)

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
    with services_over(database_url, HandClock(datetime.now(UTC)), open_store) as services:
        yield Deployment(services, medium, datetime.now(UTC) - timedelta(hours=1))


@pytest.fixture
def another_url(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of another database of the same kind, without any rows."""
    if database_url.startswith("sqlite"):
        url = f"sqlite:///{tmp_path / 'another.db'}"
        create_schema(url)
        yield url
        return
    with request.getfixturevalue("postgresql_server").database() as url:
        create_schema(url)
        yield url


@pytest.fixture
def copied(deployment: Deployment, another_url: str) -> Iterator[Callable[[], Deployment]]:
    """Copy the database as it is by then."""
    with ExitStack() as stack:

        def copy() -> Deployment:
            services = stack.enter_context(services_over(another_url, HandClock(datetime.now(UTC)), open_store))
            with deployment.services.database.read() as source, services.database.write() as target:
                for table in metadata.sorted_tables:
                    columns = [column for column in table.c if column.identity is None]
                    rows = [dict(row) for row in source.execute(select(*columns)).mappings()]
                    if rows:
                        target.execute(insert(table), rows)
            return replace(deployment, services=services)

        yield copy


def test_what_a_paused_trial_has_written_since_it_saved_is_left_alone(deployment: Deployment) -> None:
    deployment.prepare("1", "2")
    deployment.write("1", number=2)
    report = deployment.sweep(AT_ONCE)
    assert (report.tally.decided, report.exceeded, report.held_back) == (0, ["x"], {"x": {"in_use": 2}})
    assert deployment.medium.read(deployment.uri("1")) == NEWEST
    (first, _) = report.left_alone
    assert f"checkpoint {deployment.uri('1')}: it was written to at " in first
    assert "though trial 1 is paused" in first
    with deployment.services.database.read() as connection:
        finished = deployment.services.log.last_of_type(connection, DEPLOYMENT_STREAM, "sweep_finished")
    assert finished is not None
    assert getattr(finished.payload, "errors", ()) == tuple(report.left_alone)


def test_what_was_left_alone_goes_once_its_trial_has_saved_it_again(deployment: Deployment) -> None:
    deployment.prepare("1", "2")
    deployment.sweep(AT_ONCE)
    deployment.told_at = datetime.now(UTC) + timedelta(minutes=1)
    deployment.save("1")
    report = deployment.sweep(AT_ONCE)
    assert (report.tally.purged, report.exceeded) == (1, [])
    assert deployment.medium.read(deployment.uri("1")) is None
    assert deployment.medium.read(deployment.uri("2")) == {"number": 1}


def test_how_far_clocks_may_be_apart_is_for_the_operator_to_say(deployment: Deployment) -> None:
    deployment.prepare("1", "2")
    assert deployment.sweep(replace(AT_ONCE, clock_tolerance=timedelta(minutes=59))).tally.decided == 0
    assert deployment.sweep(replace(AT_ONCE, clock_tolerance=timedelta(minutes=61))).tally.purged == 1
    assert deployment.medium.read(deployment.uri("1")) is None


def paused_and_copied(deployment: Deployment, copied: Callable[[], Deployment]) -> tuple[Deployment, str]:
    """Evict the first one of three paused trials, copy the database, and evict the second one by the original.

    Returns:
        The older copy, and the id of the first decision.
    """
    deployment.told_at = datetime.now(UTC) + timedelta(minutes=1)
    deployment.prepare("1", "2", "3")
    deployment.limit(2)
    assert deployment.sweep().tally.evicted == 1
    with deployment.services.database.read() as connection:
        (decision_id,) = deployment.services.projector.look(connection, "x").decisions
    copy = copied()
    deployment.limit(1)
    assert deployment.sweep().tally.evicted == 1
    return copy, decision_id


def test_an_older_copy_evicts_and_purges_nothing_where_a_newer_one_has_swept(
    deployment: Deployment, copied: Callable[[], Deployment]
) -> None:
    copy, decision_id = paused_and_copied(deployment, copied)
    copy.limit(1)
    for _ in range(3):
        # Its log grows as long as the newer one.
        report = copy.sweep(AT_ONCE)
        assert (report.tally.evicted, report.tally.purged) == (0, 0)
        assert any("the database is an older copy" in error for error in report.tally.errors)
        assert copy.services.sweeper.purge(["x"], AT_ONCE).tally.purged == 0
    assert deployment.medium.read(deployment.uri("3")) == {"number": 1}
    deployment.services.restorer.restore(decision_id)
    assert deployment.medium.read(deployment.uri("1")) == {"number": 1}
    assert deployment.sweep(AT_ONCE).tally.failed == 0


def test_an_older_copy_goes_on_by_the_operators_word_alone(
    deployment: Deployment, copied: Callable[[], Deployment]
) -> None:
    copy, _ = paused_and_copied(deployment, copied)
    root = deployment.medium.root_uri
    before = copy.services.administration.look().stores[root]
    with pytest.raises(StateRefused, match=f"then `ckpt-quota store add {root} --take-over`"):
        copy.services.administration.add_store(root)
    assert copy.services.administration.look().stores[root] == before
    copy.services.administration.remove_store(root)
    with pytest.raises(StateRefused, match=f"then `ckpt-quota store add {root} --take-over`"):
        copy.services.administration.add_store(root)
    assert deployment.sweep(AT_ONCE).tally.failed == 0
    copy.services.administration.add_store(root, take_over=True)
    copy.handle.trial_started("4")
    copy.limit(1)
    assert copy.sweep(AT_ONCE).tally.failed == 0
    deployment.handle.trial_started("4")
    assert deployment.sweep(AT_ONCE).tally.evicted == 0


def test_of_two_copies_that_sweep_one_store_the_second_one_finds_out(
    deployment: Deployment, copied: Callable[[], Deployment]
) -> None:
    deployment.told_at = datetime.now(UTC) + timedelta(minutes=1)
    deployment.prepare("1", "2", "3")
    deployment.limit(2)
    copy = copied()
    assert copy.sweep().tally.evicted == 1
    deployment.limit(1)
    report = deployment.sweep(AT_ONCE)
    assert (report.tally.evicted, report.tally.purged) == (0, 0)
    assert any("another copy of it sweeps this store too" in error for error in report.tally.errors)


def test_a_database_that_has_nothing_to_do_with_a_mark_does_not_know_it(deployment: Deployment) -> None:
    deployment.told_at = datetime.now(UTC)
    deployment.prepare("1", "2")
    store = open_store(deployment.medium.root_uri)
    store.mark(Mark(store.own_mark() or "", 2, "0" * 64).text)
    assert deployment.sweep().tally.evicted == 0
    deployment.services.administration.add_store(deployment.medium.root_uri, take_over=True)
    assert deployment.sweep().tally.evicted == 1
    assert parse_mark(store.own_mark() or "").generation > 0

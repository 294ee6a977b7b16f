"""Sweeps, resumes and restores of checkpoints in buckets, from the recorder to the server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest

import quota_s3.deleting
import quota_s3.parallel
import quota_s3.store
from integration.s3_store.house import Crash, House
from quota.bootstrap import Services, open_store
from quota.client import ExperimentHandle
from quota.domain.events import ExperimentRegistered, LimitSet, PolicyParameters
from quota.domain.identifiers import ORPHANS_STREAM
from quota.errors import StoreError
from quota.services.findings import Finding, ReconcileOrder
from quota.services.sweep_order import SweepOrder
from quota_s3.bucket import Bucket
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

    from quota_s3.settings import BucketSettings
    from s3_servers import Kind, S3Server

KEEP = SweepOrder(PolicyParameters(policy="by_level"), timedelta(days=1))
AT_ONCE = SweepOrder(PolicyParameters(policy="by_level"), timedelta())


def root_of(house: House) -> str:
    """Return a prefix beside the house's own, which its fixture watches over."""
    return f"sweeps-{house.top}"


def uri_of(house: House, trial_id: str) -> str:
    return f"s3://{house.bucket}/{root_of(house)}trial-{trial_id}/"


def keys_of(house: House, trial_id: str) -> list[str]:
    listed = house.client.list_objects_v2(Bucket=house.bucket, Prefix=f"{root_of(house)}trial-{trial_id}/")
    return [found.get("Key", "") for found in listed.get("Contents", [])]


def prepare(services: Services, house: House) -> ExperimentHandle:
    """Pause trials 1 and 10, the first being the better one; their prefixes begin alike."""
    services.administration.add_store(f"s3://{house.bucket}/{root_of(house)}")
    services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=1, low=1))
    handle = ExperimentHandle(services, "tuner", "x")
    handle.record(ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9))
    for trial_id, metric in (("1", 0.9), ("10", 0.1)):
        handle.trial_started(trial_id)
        for name in ("weights", "optimizer/state"):
            house.client.put_object(Bucket=house.bucket, Key=f"{root_of(house)}trial-{trial_id}/{name}", Body=b"x" * 10)
        handle.checkpoint_saved(trial_id, location=uri_of(house, trial_id), size_bytes=20, resource=1)
        handle.trial_paused(trial_id, level=1, metric=metric)
    return handle


def state_of(services: Services, uri: str) -> str:
    with services.database.read() as connection:
        return services.projector.look(connection, "x").checkpoints[uri].state


def test_from_the_limit_to_the_bucket_and_back(house: House, sqlite_url: str) -> None:
    create_schema(sqlite_url)
    with services_over(sqlite_url, HandClock(), open_store) as services:
        handle = prepare(services, house)
        assert services.sweeper.sweep(["x"], KEEP).tally.evicted == 1
        assert (state_of(services, uri_of(house, "1")), keys_of(house, "1")) == ("trashed", [])
        assert len(keys_of(house, "10")) == 2
        loadable = handle.resume_trial("1", level=1)
        assert loadable is not None
        assert (loadable.uri, len(keys_of(house, "1"))) == (uri_of(house, "1"), 2)
        # A running trial counts, so that the other one goes now, for good.
        report = services.sweeper.sweep(["x"], AT_ONCE)
        assert (report.tally.purged, report.tally.freed_bytes) == (1, 20)
        assert (state_of(services, uri_of(house, "10")), keys_of(house, "10")) == ("purged", [])
        assert handle.resume_trial("10", level=1) is None
        assert len(keys_of(house, "1")) == 2
        assert list(services.rebuilder.verify("x", lambda _: None)) == []


def empty(house: House) -> None:
    """Delete all that its bucket has, in whatever version."""
    bucket = Bucket(house.bucket, house.client)
    for entry in bucket.versions("") if house.kind == "versioned" else bucket.objects(""):
        if entry.version_id is None:
            house.client.delete_object(Bucket=house.bucket, Key=entry.key)
        else:
            house.client.delete_object(Bucket=house.bucket, Key=entry.key, VersionId=entry.version_id)


@pytest.mark.usefixtures("s3_environment")
def test_a_bucket_that_is_gone_says_nothing_about_its_checkpoints(
    s3_server: S3Server, kind: Kind, sqlite_url: str
) -> None:
    house = House(s3_server.client, s3_server.create_bucket(kind), kind)
    create_schema(sqlite_url)
    with services_over(sqlite_url, HandClock(), open_store) as services:
        handle = prepare(services, house)
        assert services.sweeper.sweep(["x"], KEEP).tally.evicted == 1
        empty(house)
        s3_server.client.delete_bucket(Bucket=house.bucket)
        # A running trial counts, so that the other one should go, and what is in the trash is due.
        handle.trial_started("2")
        report = services.sweeper.sweep(["x"], AT_ONCE)
        assert (report.tally.evicted, report.tally.purged, report.tally.missing) == (0, 0, [])
        assert report.tally.errors
        assert all(f"bucket {house.bucket}" in error and "no such bucket" in error for error in report.tally.errors)
        states = [state_of(services, uri_of(house, trial_id)) for trial_id in ("1", "10")]
        assert states == ["trashed", "stored"]


def test_a_bucket_that_no_store_is_configured_for_is_never_touched(
    s3_buckets: dict[Kind, str], house: House, sqlite_url: str
) -> None:
    other = next(bucket for kind, bucket in s3_buckets.items() if kind != house.kind)
    create_schema(sqlite_url)
    with services_over(sqlite_url, HandClock(), open_store) as services:
        handle = prepare(services, house)
        # In another bucket, by the same name as the store's root; and the worst of all.
        uri = uri_of(house, "3").replace(house.bucket, other)
        key = f"{root_of(house)}trial-3/weights"
        house.client.put_object(Bucket=other, Key=key, Body=b"x" * 10)
        handle.trial_started("3")
        handle.checkpoint_saved("3", location=uri, size_bytes=10, resource=1)
        handle.trial_paused("3", level=1, metric=0.05)
        report = services.sweeper.sweep(["x"], AT_ONCE)
        assert (report.tally.purged, report.tally.errors) == (2, [])
        assert [state_of(services, one) for one in (uri_of(house, "1"), uri_of(house, "10"), uri)] == [
            "purged",
            "purged",
            "stored",
        ]
        assert house.client.get_object(Bucket=other, Key=key)["Body"].read() == b"x" * 10


def cut_off(event: str, number: int, act: Callable[[], object]) -> None:
    """Let a process die before the n-th request of a kind, among those that change anything outside of the trash."""
    left = [number]

    def die(request: AWSPreparedRequest, **_: object) -> None:
        if ".trash" not in str(request.url):
            left[0] -= 1
            if left[0] <= 0:
                raise Crash

    make = quota_s3.store.make_client

    def make_deadly(bucket: str, settings: BucketSettings) -> S3Client:
        client = make(bucket, settings)
        client.meta.events.register_first(f"before-send.s3.{event}", die)
        return client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quota_s3.store, "make_client", make_deadly)
        patch.setattr(quota_s3.deleting, "PAGE", 1)
        patch.setattr(quota_s3.parallel, "WORKERS", 1)
        with pytest.raises(Crash):
            act()


class Seen:
    """Remembers what a comparison finds."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def listed(self) -> None:
        """Nobody looks."""

    def found(self, finding: Finding) -> None:
        self.findings.append(finding)

    def should_stop(self) -> bool:
        return False


def claims_of(house: House) -> frozenset[str]:
    return open_store(f"s3://{house.bucket}/{root_of(house)}").claims()


@pytest.mark.parametrize("number", [1, 2])
def test_a_restore_that_was_cut_off_is_finished_by_the_next_sweep(house: House, sqlite_url: str, number: int) -> None:
    create_schema(sqlite_url)
    clock = HandClock()
    with services_over(sqlite_url, clock, open_store) as services:
        prepare(services, house)
        assert services.sweeper.sweep(["x"], KEEP).tally.evicted == 1
        services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=5, low=5))
        (claim,) = claims_of(house)
        event = "DeleteObjects" if house.kind == "versioned" else "CopyObject"
        cut_off(event, number, lambda: services.restorer.restore(claim))
        assert state_of(services, uri_of(house, "1")) == "trashed"
        services.sweeper.sweep(["x"], KEEP)
        assert (state_of(services, uri_of(house, "1")), len(keys_of(house, "1"))) == ("stored", 2)
        clock.moment += timedelta(days=1)
        services.sweeper.sweep(["x"], KEEP)
        assert claims_of(house) == frozenset()
        assert len(keys_of(house, "1")) == 2


def test_a_restore_that_was_cut_off_is_finished_while_its_trial_goes_on(house: House, sqlite_url: str) -> None:
    create_schema(sqlite_url)
    with services_over(sqlite_url, HandClock(), open_store) as services:
        handle = prepare(services, house)
        handle.resume_trial("10", level=1)
        house.client.put_object(Bucket=house.bucket, Key=f"{root_of(house)}later/weights", Body=b"x" * 10)
        later = f"s3://{house.bucket}/{root_of(house)}later/"
        handle.checkpoint_saved("10", location=later, size_bytes=10, resource=2)
        handle.trial_paused("10", level=1, metric=0.1)
        assert handle.resume_trial("10", level=1) is not None
        services.sweeper.sweep(["x"], KEEP)
        assert (state_of(services, uri_of(house, "10")), keys_of(house, "10")) == ("trashed", [])
        services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=5, low=5))
        with services.database.read() as connection:
            decisions = services.projector.look(connection, "x").decisions
        (claim,) = [one for one, decision in decisions.items() if decision.decided.uri == uri_of(house, "10")]
        event = "DeleteObjects" if house.kind == "versioned" else "CopyObject"
        cut_off(event, 2, lambda: services.restorer.restore(claim))
        services.sweeper.sweep(["x"], KEEP)
        assert (state_of(services, uri_of(house, "10")), len(keys_of(house, "10"))) == ("stored", 2)


def test_a_restore_that_was_cut_off_is_left_alone_while_its_trial_starts_anew(house: House, sqlite_url: str) -> None:
    create_schema(sqlite_url)
    with services_over(sqlite_url, HandClock(), open_store) as services:
        handle = prepare(services, house)
        assert services.sweeper.sweep(["x"], KEEP).tally.evicted == 1
        services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=5, low=5))
        (claim,) = claims_of(house)
        event = "DeleteObjects" if house.kind == "versioned" else "CopyObject"
        cut_off(event, 2, lambda: services.restorer.restore(claim))
        with pytest.MonkeyPatch.context() as patch:
            refusal = StoreError("store: out of order")
            patch.setattr("quota_s3.store.S3Store.restore", lambda *_: raising(refusal))
            assert handle.resume_trial("1", level=1) is None
        services.sweeper.sweep(["x"], KEEP)
        assert (state_of(services, uri_of(house, "1")), len(keys_of(house, "1"))) == ("trashed", 1)
        handle.trial_paused("1", level=1, metric=0.9)
        services.sweeper.sweep(["x"], KEEP)
        assert (state_of(services, uri_of(house, "1")), len(keys_of(house, "1"))) == ("stored", 2)


def raising(error: Exception) -> NoReturn:
    raise error


def test_what_is_deleted_late_is_brought_back_by_the_next_look_or_sweep(house: House, sqlite_url: str) -> None:
    create_schema(sqlite_url)
    clock = HandClock()
    with services_over(sqlite_url, clock, open_store) as services:
        handle = prepare(services, house)
        event = "DeleteObjects" if house.kind == "versioned" else "DeleteObject"
        cut_off(event, 1, lambda: services.sweeper.sweep(["x"], KEEP))
        (claim,) = claims_of(house)
        assert handle.resume_trial("1", level=1) is not None
        assert claims_of(house) == {claim}
        seen = Seen()
        services.reconciler.reconcile([], ReconcileOrder(timedelta(), timedelta(minutes=1)), seen)
        assert "orphan_in_trash" not in [finding.kind for finding in seen.findings]
        for key in keys_of(house, "1"):
            house.client.delete_object(Bucket=house.bucket, Key=key)
        assert services.recorder.promised_checkpoint("x", "1") is not None
        assert (state_of(services, uri_of(house, "1")), len(keys_of(house, "1"))) == ("stored", 2)
        house.client.delete_object(Bucket=house.bucket, Key=f"{root_of(house)}trial-1/weights")
        services.sweeper.sweep(["x"], KEEP)
        assert (state_of(services, uri_of(house, "1")), len(keys_of(house, "1"))) == ("stored", 2)
        clock.moment += timedelta(days=1)
        services.sweeper.sweep(["x"], KEEP)
        assert claim not in claims_of(house)
        assert len(keys_of(house, "1")) == 2


def test_what_a_running_trial_deletes_long_after_is_not_brought_back(house: House, sqlite_url: str) -> None:
    create_schema(sqlite_url)
    clock = HandClock()
    with services_over(sqlite_url, clock, open_store) as services:
        handle = prepare(services, house)
        event = "DeleteObjects" if house.kind == "versioned" else "DeleteObject"
        cut_off(event, 1, lambda: services.sweeper.sweep(["x"], KEEP))
        assert handle.resume_trial("1", level=1) is not None
        for minutes, keys in ((1, 2), (2, 1)):
            clock.moment += timedelta(minutes=minutes)
            house.client.delete_object(Bucket=house.bucket, Key=f"{root_of(house)}trial-1/weights")
            services.sweeper.sweep(["x"], KEEP)
            # Long after nobody but the trial can have deleted it: a lease of ours has run out by then.
            assert len(keys_of(house, "1")) == keys


def test_what_is_kept_of_a_checkpoint_goes_when_that_is_evicted_again(house: House, sqlite_url: str) -> None:
    create_schema(sqlite_url)
    with services_over(sqlite_url, HandClock(), open_store) as services:
        handle = prepare(services, house)
        event = "DeleteObjects" if house.kind == "versioned" else "DeleteObject"
        cut_off(event, 1, lambda: services.sweeper.sweep(["x"], KEEP))
        (claim,) = claims_of(house)
        assert handle.resume_trial("1", level=1) is not None
        handle.trial_paused("1", level=1, metric=0.9)
        services.sweeper.sweep(["x"], KEEP)
        assert state_of(services, uri_of(house, "1")) == "trashed"
        assert claim not in claims_of(house)
        assert handle.resume_trial("1", level=1) is not None
        assert len(keys_of(house, "1")) == 2


def test_what_was_kept_of_an_orphan_does_not_come_back_once_it_is_evicted(house: House, sqlite_url: str) -> None:
    create_schema(sqlite_url)
    # What was written just now is no orphan.
    with services_over(sqlite_url, HandClock(datetime.now(UTC) + timedelta(hours=1)), open_store) as services:
        handle = prepare(services, house)
        house.client.put_object(Bucket=house.bucket, Key=f"{root_of(house)}trial-2/weights", Body=b"x" * 10)
        event = "DeleteObjects" if house.kind == "versioned" else "DeleteObject"
        taken = partial(services.sweeper.trash_orphans, [uri_of(house, "2")], timedelta(), KEEP)
        cut_off(event, 1, taken)
        handle.trial_started("2")
        handle.checkpoint_saved("2", location=uri_of(house, "2"), size_bytes=10, resource=1)
        handle.trial_paused("2", level=1, metric=0.95)
        services.sweeper.sweep([ORPHANS_STREAM], KEEP)
        assert len(keys_of(house, "2")) == 1
        services.sweeper.sweep(["x"], AT_ONCE)
        assert (state_of(services, uri_of(house, "2")), keys_of(house, "2")) == ("purged", [])
        services.sweeper.sweep(["x", ORPHANS_STREAM], KEEP)
        assert keys_of(house, "2") == []
        assert claims_of(house) == frozenset()

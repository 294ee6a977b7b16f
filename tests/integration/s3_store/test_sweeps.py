"""Sweeps, resumes and restores of checkpoints in buckets, from the recorder to the server."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from quota.bootstrap import Services, open_store
from quota.client import ExperimentHandle
from quota.domain.events import ExperimentRegistered, LimitSet, PolicyParameters
from quota.services.sweep_order import SweepOrder
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from integration.s3_store.house import House

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

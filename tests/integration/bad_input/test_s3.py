"""BAD_INPUT, S3, as far as no server is needed to tell; tests/integration/s3_store has the rest."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bad_input import assert_refused, event, running_trial, send
from quota.client import ExperimentHandle
from quota.domain.events import CheckpointSaved, ExperimentRegistered, LimitSet, PolicyParameters
from quota.errors import PathRefused, StateRefused
from quota.services.sweep_order import SweepOrder
from quota.testing.memory_store import MemoryStore
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from typing import Any

ROOT = "s3://bucket/hpo/"


def saved(trial_id: str, uri: str) -> dict[str, Any]:
    return event("checkpoint_saved", {"trial_id": trial_id, "uri": uri, "size_bytes": 1, "resource": 1})


def test_what_is_no_prefix_of_a_checkpoint(database_url: str) -> None:
    with running_trial(database_url) as trial:
        for uri, reason in (
            ("", "a location is an absolute URI"),
            ("s3://", "names its bucket"),
            ("s3:///trial-7/", "names its bucket"),
            ("s3://bucket", "a location needs a path"),
            ("s3://bucket/", "a whole bucket or file system is no checkpoint"),
            ("s3://bucket//", "one spelling only"),
            ("s3://bucket/hpo//trial-7/", "empty component"),
            (
                "s3://bucket/hpo/trial-7",
                "a prefix ends in `/`, or it would take others along; write s3://bucket/hpo/trial-7/",
            ),
            ("s3://bucket/hpo/../trial-7/", "are not followed"),
            ("s3://bucket/hpo/.trash/7/", "is reserved"),
            ("file:///", "a whole bucket or file system is no checkpoint"),
        ):
            payload = CheckpointSaved(trial_id="7", uri=uri, size_bytes=1, resource=1)
            trial.refuses_event(PathRefused, payload, f"field `uri` is {uri!r}: ", reason)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("s3://bucket/hpo/trial-1/", "s3://bucket/hpo/trial-1/epoch-2/"),
        ("s3://bucket/hpo/trial-1/epoch-2/", "s3://bucket/hpo/trial-1/"),
        ("s3://bucket/hpo/trial-1/", "s3://bucket/hpo/"),
    ],
)
def test_a_prefix_that_overlaps_that_of_another_checkpoint(database_url: str, first: str, second: str) -> None:
    say = "line 1, event ID (checkpoint_saved): field `uri` is"
    advice = "evicting one would take the other, so give each trial its own place"
    with running_trial(database_url) as trial:
        send(trial.services, event("trial_started", {"trial_id": "8"}), saved("7", first))
        for trial_id in ("7", "8"):
            assert_refused(
                trial.services,
                saved(trial_id, second),
                error=StateRefused,
                message=f"{say} '{second}': it overlaps {first}, which belongs to trial 7 of experiment one; {advice}",
            )


@pytest.mark.parametrize("order", [1, -1])
def test_a_prefix_that_merely_begins_like_another_is_no_overlap(database_url: str, order: int) -> None:
    uris = (
        "s3://bucket/hpo/trial-1/",
        "s3://bucket/hpo/trial-10/",
        "s3://bucket/hpo/trial-1.old/",
        "s3://bucket/hpo-2/trial-1/",
        "s3://bucket-2/hpo/trial-1/",
    )
    with running_trial(database_url) as trial:
        for number, uri in enumerate(uris[::order]):
            trial_id = f"of-{number}"
            assert send(trial.services, event("trial_started", {"trial_id": trial_id}), saved(trial_id, uri)) == 2


def test_a_bucket_that_no_store_is_configured_for_is_never_touched(database_url: str) -> None:
    create_schema(database_url)
    store, opened = MemoryStore(ROOT), list[str]()

    def open_store(root: str) -> MemoryStore:
        opened.append(root)
        return store

    with services_over(database_url, HandClock(), open_store) as services:
        services.administration.add_store(ROOT)
        services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=1, low=1))
        handle = ExperimentHandle(services, "tuner", "x")
        handle.record(ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9))
        # The worst one lies where nothing may be deleted.
        places = {"1": f"{ROOT}trial-1/", "2": f"{ROOT}trial-2/", "3": "s3://bucket-2/hpo/trial-3/"}
        for trial_id, uri in places.items():
            handle.trial_started(trial_id)
            if uri.startswith(ROOT):
                store.add_checkpoint(uri, {"weights": b"w"})
            handle.checkpoint_saved(trial_id, location=uri, size_bytes=1, resource=1)
            handle.trial_paused(trial_id, level=1, metric=float(trial_id))
        report = services.sweeper.sweep(["x"], SweepOrder(PolicyParameters(policy="by_level"), timedelta()))
        assert (report.tally.purged, report.tally.errors, report.exceeded) == (2, [], [])
        assert report.held_back == {}
        services.queries.catch_up(["x"])
        shown = services.queries.ask("SELECT trial_id, state, store FROM checkpoint_inventory ORDER BY trial_id")
        assert [tuple(row.values()) for row in shown] == [
            ("1", "purged", ROOT),
            ("2", "purged", ROOT),
            ("3", "stored", None),
        ]
        assert set(opened) == {ROOT}
        loadable = handle.resume_trial("3", level=1)
        assert loadable is not None
        assert loadable.uri == places["3"]

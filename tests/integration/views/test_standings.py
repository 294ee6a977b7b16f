"""The views of what is held and how it stands say it alike on both databases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from integration.views.by_hand import (
    CUT_OFF_SWEEP,
    PURGED,
    REFUSED,
    REGISTERED,
    ask,
    decided,
    deploy,
    paused,
    saved,
    shown,
    tell,
)
from quota.domain.events import (
    CheckpointPinned,
    CheckpointPurged,
    CheckpointTrashed,
    LimitSet,
    PurgeDecided,
    StoreAdded,
    TrialResumed,
    TrialStarted,
)

if TYPE_CHECKING:
    from quota.bootstrap import Services

STORE_ID = "01990000-0000-7000-8000-000000000009"


def test_checkpoint_inventory_shows_every_checkpoint_wherever_it_is(services: Services) -> None:
    elsewhere = "memory://elsewhere/a/"
    tell(services, "one", REGISTERED, TrialStarted(trial_id="a"))
    tell(services, "one", (3, saved("a", elsewhere, size_bytes=12)), CheckpointPinned(trial_id="a", uri=elsewhere))
    tell(services, "one", (5, saved("a", "memory://store/deep/a/", size_bytes=13, resource=2)))
    tell(services, "one", *paused("b", 0.5), decided(PURGED, "b", 8, reason="paused", place=1))
    # The same trial's name in another experiment is another trial, and this one saves at a later position.
    tell(services, "two", REGISTERED, *paused("b", 0.5), TrialStarted(trial_id="a"), saved("a", "memory://store/two/"))
    deploy(
        services,
        StoreAdded(uri="memory://store/", store_id=STORE_ID),
        StoreAdded(uri="memory://store/deep/", store_id=STORE_ID),
    )

    assert ask(services, "SELECT * FROM checkpoint_inventory WHERE experiment_id = 'one' ORDER BY saved_position") == [
        {
            "experiment_id": "one",
            "trial_id": "a",
            "uri": elsewhere,
            "state": "stored",
            "size_bytes": 12,
            "resource": 1,
            "saved_at": shown(3),
            "saved_position": 3,
            "is_newest": False,
            "pinned": True,
            "pinned_scope": None,
            "trial_status": "running",
            "level": None,
            "store": None,
            "decision_id": None,
        },
        {
            "experiment_id": "one",
            "trial_id": "a",
            "uri": "memory://store/deep/a/",
            "state": "stored",
            "size_bytes": 13,
            "resource": 2,
            "saved_at": shown(5),
            "saved_position": 5,
            "is_newest": True,
            "pinned": False,
            "pinned_scope": None,
            "trial_status": "running",
            "level": None,
            "store": "memory://store/deep/",
            "decision_id": None,
        },
        {
            "experiment_id": "one",
            "trial_id": "b",
            "uri": "memory://store/b/",
            "state": "claimed",
            "size_bytes": 11,
            "resource": 1,
            "saved_at": shown(0),
            "saved_position": 8,
            "is_newest": True,
            "pinned": False,
            "pinned_scope": None,
            "trial_status": "paused",
            "level": 1,
            "store": "memory://store/",
            "decision_id": PURGED,
        },
    ]


# The last three begin like a store's root, and lie in none.
@pytest.mark.parametrize(
    "uri",
    [
        "memory://store/hpo/a/",
        "memory://store/hpo/deep/a/",
        "memory://store/hpo/deeper/a/",
        "memory://store/100%25_/a/",
        "memory://store/1000_/a/",
        "file:///scratch/a",
        "memory://store/hpo/",
        "memory://store/hpo-2/a/",
        "file:///scratch-2/a",
    ],
)
def test_checkpoint_inventory_names_the_store_that_a_sweep_would_use(services: Services, uri: str) -> None:
    roots = ("memory://store/hpo/", "memory://store/hpo/deep/", "memory://store/100%25_/", "file:///scratch")
    deploy(services, *(StoreAdded(uri=root, store_id=STORE_ID) for root in roots))
    tell(services, "one", REGISTERED, TrialStarted(trial_id="a"), saved("a", uri))
    with services.database.read() as connection:
        store = services.projector.look_at_deployment(connection).store_for(uri)

    expected = None if store is None else store.uri
    assert ask(services, "SELECT store FROM checkpoint_inventory") == [{"store": expected}]


def test_rung_standings_rank_as_the_fold_does(services: Services) -> None:
    metrics = {"a": 0.5, "b": math.nan, "c": 0.75, "d": 0.5, "e": -math.inf, "f": -1.5, "g": math.inf, "B": 0.5}
    tell(services, "one", REGISTERED, *(event for trial, metric in metrics.items() for event in paused(trial, metric)))
    # A promoted entry moves behind its equals.
    tell(services, "one", TrialResumed(trial_id="a", level=1), *paused("z", 0.1, level=3))
    tell(services, "two", REGISTERED, *paused("a", 0.9))
    with services.database.read() as connection:
        rungs = services.projector.look(connection, "one").rungs

    rows = ask(services, "SELECT * FROM rung_standings WHERE experiment_id = 'one' ORDER BY level, rank")
    assert [row["trial_id"] for row in rows] == ["c", "d", "B", "a", "f", "b", "e", "g", "z"]
    assert [row["rank"] for row in rows] == [rungs[row["level"]].ranking().ranks[row["trial_id"]] for row in rows]
    assert [row["metric"] for row in rows] == [0.75, 0.5, 0.5, 0.5, -1.5, None, -math.inf, math.inf, 0.1]
    assert rows[3] == {
        "experiment_id": "one",
        "level": 1,
        "rank": 4,
        "trial_id": "a",
        "metric": 0.5,
        "promoted": True,
        "has_checkpoint": False,
        "trial_status": "running",
        "rung_length": 8,
        "promotion_quantile": 0.5,
    }
    assert rows[8] == {
        "experiment_id": "one",
        "level": 3,
        "rank": 1,
        "trial_id": "z",
        "metric": 0.1,
        "promoted": False,
        "has_checkpoint": True,
        "trial_status": "paused",
        "rung_length": 1,
        "promotion_quantile": 0.25,
    }


def test_estimator_status_gives_the_mean_that_a_sweep_would_use(services: Services) -> None:
    tell(services, "one", REGISTERED, *(event for n in range(3) for event in paused(str(n), (0.2, 0.1, 0.3)[n])))
    with services.database.read() as connection:
        estimators = services.projector.look(connection, "one").estimators

    # The second report is compared with one trial and is worse, the third with two and better than both.
    rows = ask(services, "SELECT * FROM estimator_status ORDER BY estimator, level")
    means = {level: estimator.posterior_mean(0.33, 2.0) for level, estimator in estimators.items()}
    counts = {"experiment_id": "one", "ones": 2, "total": 3, "fraction": 2 / 3}
    nothing = {"experiment_id": "one", "ones": 0, "total": 0, "fraction": None}
    assert rows == [
        {**counts, "estimator": "overall", "level": None, "posterior_mean": means[0]},
        {**counts, "estimator": "rung", "level": 1, "posterior_mean": means[1]},
        {**nothing, "estimator": "rung", "level": 3, "posterior_mean": 0.33},
    ]


def test_quota_usage_shows_what_is_held_and_the_limit_that_holds(services: Services) -> None:
    tell(services, "one", REGISTERED, *paused("a", 0.5), *paused("b", 0.25), *paused("c", 0.1))
    tell(
        services,
        "one",
        TrialStarted(trial_id="d"),
        saved("d", "memory://store/d/", size_bytes=100),
        *(TrialStarted(trial_id=trial_id) for trial_id in "efg"),
        decided(PURGED, "a", 4, reason="paused", place=1),
        CheckpointTrashed(decision_id=PURGED, trial_id="a"),
        PurgeDecided(decision_id=PURGED, trial_id="a"),
        CheckpointPurged(decision_id=PURGED, trial_id="a", freed_bytes=35),
        decided(REFUSED, "b", 8, reason="paused", place=2),
        decided(CUT_OFF_SWEEP, "c", 12, reason="paused", place=3),
        CheckpointTrashed(decision_id=CUT_OFF_SWEEP, trial_id="c"),
    )
    tell(services, "two", REGISTERED, *paused("a", 0.5))
    query = "SELECT * FROM quota_usage ORDER BY experiment_id"
    one = {
        "experiment_id": "one",
        "held_checkpoints": 4,
        "limit_scope": None,
        "limit_high": None,
        "limit_low": None,
        "exceeded": False,
        "running_trials": 4,
        "stored_checkpoints": 1,
        "stored_bytes": 100,
        "claimed_checkpoints": 1,
        "claimed_bytes": 11,
        "trashed_checkpoints": 1,
        "trashed_bytes": 11,
        "freed_bytes": 35,
    }
    assert ask(services, query)[0] == one

    deploy(services, LimitSet(scope="experiments", measure="checkpoints", high=3, low=2))
    limit_of_each = {"limit_scope": "experiments", "limit_high": 3, "limit_low": 2}
    assert ask(services, query)[0] == one | limit_of_each | {"exceeded": True}

    # At the high watermark, and not above it.
    deploy(services, LimitSet(scope="experiment:one", measure="checkpoints", high=4, low=1))
    limit_of_its_own = {"limit_scope": "experiment:one", "limit_high": 4, "limit_low": 1}
    rows = ask(services, query)
    assert rows[0] == one | limit_of_its_own | {"exceeded": False}
    assert [(row["experiment_id"], row["limit_scope"]) for row in rows[1:]] == [("two", "experiments")]

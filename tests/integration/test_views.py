"""The auditors' views say what happened, and say it alike on both databases.

The log is made by hand, past all services: each figure of an event differs from the others, so that no column can
be taken for another.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import text

from quota.domain.events import (
    CheckpointPinned,
    CheckpointPurged,
    CheckpointSaved,
    CheckpointTrashed,
    Event,
    EvictionDecided,
    EvictionFailed,
    ExperimentRegistered,
    LimitSet,
    PolicyParameters,
    PurgeDecided,
    StoreAdded,
    SweepFinished,
    SweepStarted,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.manifest import Manifest, ManifestEntry
from quota.eventlog.log import Prepared
from quota.eventlog.types import iso_text
from quota.projections.view_columns import VIEW_COLUMNS
from quota.services.appending import Appender
from quota.testing.memory_store import MemoryStore
from support import START, HandClock, create_schema, services_over

if TYPE_CHECKING:
    from quota.bootstrap import Services

STORE_ID = "01990000-0000-7000-8000-000000000009"
SWEEP = "01990000-0000-7000-8000-000000000001"
CUT_OFF_SWEEP = "01990000-0000-7000-8000-000000000002"
PURGED = "01990000-0000-7000-8000-00000000000a"
REFUSED = "01990000-0000-7000-8000-00000000000b"
RANDOMLY = PolicyParameters(policy="random", seed=2**53 - 1)
REGISTERED = ExperimentRegistered(
    mode="max", rung_levels=(1, 3), promotion_quantiles=(0.5, 0.25), max_resource=9, max_wallclock_seconds=600.0
)

Row = dict[str, Any]


@pytest.fixture
def services(database_url: str) -> Iterator[Services]:
    create_schema(database_url)
    with services_over(database_url, HandClock(), MemoryStore) as services:
        yield services


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def shown(seconds: float) -> str:
    return iso_text(at(seconds))


def tell(services: Services, experiment_id: str, *events: Event | tuple[float, Event]) -> None:
    """Append events to a stream, and store what they add up to; at START, or so many seconds after it."""
    appender = Appender(services.log, services.clock, "tester")
    with services.projector.locked([experiment_id]) as locked:
        for event in events:
            seconds, payload = event if isinstance(event, tuple) else (0.0, event)
            appender.add(locked[experiment_id], payload, at(seconds))
        services.projector.store(locked[experiment_id])


def deploy(services: Services, *events: Event | tuple[float, Event]) -> None:
    """Append events to the deployment's stream, and store what they add up to."""
    appender = Appender(services.log, services.clock, "operator")
    with services.log.locked([DEPLOYMENT_STREAM]) as streams:
        for event in events:
            seconds, payload = event if isinstance(event, tuple) else (0.0, event)
            services.log.add(
                streams[DEPLOYMENT_STREAM], Prepared.of(appender.event(DEPLOYMENT_STREAM, payload, at(seconds)))
            )
        services.projector.store_deployment(streams[DEPLOYMENT_STREAM])


def ask(services: Services, query: str) -> list[Row]:
    """Return the answer, in words that are the same for both databases."""
    with services.database.read() as connection:
        rows = [dict(row) for row in connection.execute(text(query)).mappings()]
    return [{name: _alike(name, value) for name, value in row.items()} for row in rows]


def _alike(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever a driver returns
    if isinstance(value, datetime):
        return iso_text(value)
    if isinstance(value, UUID):
        return str(value)
    if name in {"parameters", "exceeded"} and isinstance(value, str):
        return json.loads(value)
    return value


def saved(trial_id: str, uri: str, size_bytes: int = 10, resource: int = 1) -> CheckpointSaved:
    return CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=size_bytes, resource=resource)


def paused(trial_id: str, metric: float, level: int = 1) -> list[Event]:
    return [
        TrialStarted(trial_id=trial_id),
        TrialReported(trial_id=trial_id, resource=level, metric=metric),
        saved(trial_id, f"memory://store/{trial_id}/"),
        TrialPaused(trial_id=trial_id, level=level, metric=metric),
    ]


def decided(decision_id: str, trial_id: str, checkpoint_position: int, **inputs: Any) -> EvictionDecided:  # noqa: ANN401 - of each its own
    manifest = Manifest.of(
        ManifestEntry(path=name, size_bytes=size, version="1") for name, size in (("a", 5), ("b", 6))
    )
    return EvictionDecided(
        decision_id=decision_id,
        trial_id=trial_id,
        sweep_id=SWEEP,
        uri=f"memory://store/{trial_id}/",
        store_uri="memory://store/",
        checkpoint_position=checkpoint_position,
        size_bytes=11,
        manifest=manifest,
        state_position=21,
        limit_scope="experiments",
        limit_high=22,
        limit_low=23,
        usage=24,
        parameters=RANDOMLY,
        **inputs,
    )


def paused_with_reasons(metric: float) -> Row:
    return {
        "reason": "paused",
        "place": 25,
        "level": 1,
        "metric": metric,
        "rank": 26,
        "rung_length": 27,
        "promotion_quantile": 0.28,
        "estimator": "overall",
        "estimator_ones": 29,
        "estimator_total": 30,
        "p_better": 0.31,
        "time_ratio": 0.32,
        "resume_probability": 0.33,
        "score": 0.34,
    }


def test_eviction_history_shows_each_decision_with_its_inputs_and_its_end(services: Services) -> None:
    tell(services, "one", REGISTERED, *paused("a", 0.5), *paused("b", math.nan))
    tell(
        services,
        "one",
        (10, decided(PURGED, "a", 4, **paused_with_reasons(0.5))),
        (11, decided(REFUSED, "b", 8, reason="superseded", place=2)),
        (12, CheckpointTrashed(decision_id=PURGED, trial_id="a")),
        (13, EvictionFailed(decision_id=REFUSED, trial_id="b", step="trash", error="read-only file system")),
        (14, PurgeDecided(decision_id=PURGED, trial_id="a")),
        (15, CheckpointPurged(decision_id=PURGED, trial_id="a", freed_bytes=35)),
    )

    common = {
        "sweep_id": SWEEP,
        "experiment_id": "one",
        "store_uri": "memory://store/",
        "size_bytes": 11,
        "manifest_entries": 2,
        "policy": "random",
        "limit_scope": "experiments",
        "limit_high": 22,
        "limit_low": 23,
        "usage": 24,
        "state_position": 21,
        "actor": "tester",
    }
    purged = {
        "decision_id": PURGED,
        "trial_id": "a",
        "uri": "memory://store/a/",
        "decided_at": shown(10),
        "decided_position": 10,
        "outcome": "purged",
        "outcome_at": shown(15),
        "freed_bytes": 35,
        "failures": 0,
        "error": None,
    }
    refused = {
        "decision_id": REFUSED,
        "trial_id": "b",
        "uri": "memory://store/b/",
        "decided_at": shown(11),
        "decided_position": 11,
        "outcome": "failed",
        "outcome_at": shown(13),
        "freed_bytes": 0,
        "failures": 1,
        "error": "read-only file system",
    }
    no_reasons = dict.fromkeys(paused_with_reasons(0.5)) | {"reason": "superseded", "place": 2}
    assert ask(services, "SELECT * FROM eviction_history ORDER BY decided_position") == [
        common | purged | paused_with_reasons(0.5),
        common | refused | no_reasons,
    ]


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
    assert [row["rank"] for row in rows] == [rungs[row["level"]].rank(row["trial_id"]) for row in rows]
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


def test_trial_history_shows_every_event_of_a_trial_with_its_figures(services: Services) -> None:
    tell(
        services,
        "one",
        REGISTERED,
        (1, TrialStarted(trial_id="a", config={"metric": 5, "lr": 0.1})),
        (2, TrialReported(trial_id="a", resource=7, metric=0.1)),
        (3, saved("a", "memory://store/a/", size_bytes=2**53, resource=8)),
        (4, TrialPaused(trial_id="a", level=3, metric=1e-320)),
        (5, decided(PURGED, "a", 4, **paused_with_reasons(0.5) | {"level": 3})),
        (6, CheckpointTrashed(decision_id=PURGED, trial_id="a")),
        (-7, TrialReported(trial_id="a", resource=9, metric=math.nan)),
        (8, TrialResumed(trial_id="a", level=3)),
        (9, TrialReported(trial_id="a", resource=4, metric=math.inf)),
        (10, TrialReported(trial_id="a", resource=5, metric=-math.inf)),
        (11, TrialCompleted(trial_id="a")),
    )
    nothing = dict.fromkeys(("resource", "level", "metric", "uri", "size_bytes", "decision_id", "flag"))
    figures: list[tuple[float, str, Row]] = [
        (1, "trial_started", {}),
        (2, "trial_reported", {"resource": 7, "metric": 0.1}),
        (3, "checkpoint_saved", {"resource": 8, "uri": "memory://store/a/", "size_bytes": 2**53}),
        (4, "trial_paused", {"level": 3, "metric": 1e-320}),
        (
            5,
            "eviction_decided",
            {"level": 3, "metric": 0.5, "uri": "memory://store/a/", "size_bytes": 11, "decision_id": PURGED},
        ),
        (6, "checkpoint_trashed", {"decision_id": PURGED}),
        (-7, "trial_reported", {"resource": 9, "flag": "late_report, time_before_registration"}),
        (8, "trial_resumed", {"level": 3}),
        (9, "trial_reported", {"resource": 4, "metric": math.inf}),
        (10, "trial_reported", {"resource": 5, "metric": -math.inf}),
        (11, "trial_completed", {}),
    ]
    recorded = {
        row["position"]: row["recorded_at"] for row in ask(services, "SELECT position, recorded_at FROM events")
    }

    assert ask(services, "SELECT * FROM trial_history ORDER BY position") == [
        nothing
        | {"experiment_id": "one", "position": position, "trial_id": "a", "type": kind, "actor": "tester"}
        | {"occurred_at": shown(seconds), "recorded_at": recorded[position]}
        | values
        for position, (seconds, kind, values) in enumerate(figures, start=2)
    ]


def test_trial_history_outlives_a_nul_in_the_log(services: Services) -> None:
    """PostgreSQL's JSON functions refuse a text that holds one, and the event can never be taken back."""
    tell(services, "one", REGISTERED, TrialStarted(trial_id="a"), TrialFailed(trial_id="a", error="\0, \\u0000 \\\0"))

    rows = ask(services, "SELECT * FROM trial_history ORDER BY position")
    assert [row["type"] for row in rows] == ["trial_started", "trial_failed"]


def test_sweep_history_shows_finished_and_unfinished_sweeps(services: Services) -> None:
    plain = PolicyParameters()
    finished = SweepFinished(
        sweep_id=SWEEP, decided=6, evicted=5, failed=4, cancelled=3, freed_bytes=2, exceeded=("one", "two")
    )
    deploy(services, SweepStarted(sweep_id=SWEEP, parameters=RANDOMLY, software_version="1.2.3"))
    deploy(services, (90.500021, finished))
    deploy(services, (100.25, SweepStarted(sweep_id=CUT_OFF_SWEEP, parameters=plain, software_version="1.2.4")))

    prior = {"approx_steps": 25, "prior_mean": 0.33, "prior_size": 2.0, "min_data_at_rung": 5}
    assert ask(services, "SELECT * FROM sweep_history ORDER BY started_at") == [
        {
            "sweep_id": SWEEP,
            "started_at": shown(0),
            "finished_at": shown(90.500021),
            "duration_seconds": 90.500021,
            "status": "finished",
            "policy": "random",
            "seed": 2**53 - 1,
            "parameters": {"policy": "random", "seed": 2**53 - 1} | prior,
            "decided": 6,
            "evicted": 5,
            "failed": 4,
            "cancelled": 3,
            "freed_bytes": 2,
            "exceeded": ["one", "two"],
            "software_version": "1.2.3",
            "actor": "operator",
        },
        {
            "sweep_id": CUT_OFF_SWEEP,
            "started_at": shown(100.25),
            "finished_at": None,
            "duration_seconds": None,
            "status": "unfinished",
            "policy": "syne-tune",
            "seed": None,
            "parameters": {"policy": "syne-tune", "seed": None} | prior,
            "decided": 0,
            "evicted": 0,
            "failed": 0,
            "cancelled": 0,
            "freed_bytes": 0,
            "exceeded": [],
            "software_version": "1.2.4",
            "actor": "operator",
        },
    ]


@pytest.mark.parametrize(
    "question",
    [
        "SELECT type FROM trial_history JOIN eviction_history USING (experiment_id, decision_id) ORDER BY position",
        "SELECT type FROM trial_history JOIN checkpoint_inventory USING (experiment_id, uri) ORDER BY position",
        "SELECT type FROM trial_history JOIN rung_standings USING (experiment_id, trial_id) ORDER BY position",
        "SELECT status FROM eviction_history JOIN sweep_history USING (sweep_id)",
    ],
)
def test_views_can_be_joined(services: Services, question: str) -> None:
    """PostgreSQL compares a uuid with no text, and no two texts of different collations."""
    tell(services, "one", REGISTERED, *paused("a", 0.5), decided(PURGED, "a", 4, reason="paused", place=1))
    deploy(services, SweepStarted(sweep_id=SWEEP, parameters=RANDOMLY, software_version="1"))

    found = [next(iter(row.values())) for row in ask(services, question)]
    assert found[-1] in {"eviction_decided", "unfinished"}


def test_views_have_types_of_their_own_on_postgresql(postgresql_url: str) -> None:
    create_schema(postgresql_url)
    expected = {
        "eviction_history.decided_at": "timestamp with time zone",
        "eviction_history.decision_id": "uuid",
        "eviction_history.score": "double precision",
        "checkpoint_inventory.is_newest": "boolean",
        "checkpoint_inventory.store": "text",
        "rung_standings.rank": "bigint",
        "estimator_status.level": "bigint",
        "estimator_status.posterior_mean": "double precision",
        "quota_usage.exceeded": "boolean",
        "trial_history.decision_id": "uuid",
        "trial_history.metric": "double precision",
        "trial_history.size_bytes": "bigint",
        "sweep_history.duration_seconds": "double precision",
        "sweep_history.seed": "bigint",
        "sweep_history.parameters": "json",
    }
    with services_over(postgresql_url, HandClock(), MemoryStore) as services:
        rows = ask(services, "SELECT table_name, column_name, data_type FROM information_schema.columns")
    types = {f"{row['table_name']}.{row['column_name']}": row["data_type"] for row in rows}
    assert {column: types[column] for column in expected} == expected


def test_an_auditors_own_sqlite_reads_the_views(sqlite_url: str) -> None:
    create_schema(sqlite_url)
    with services_over(sqlite_url, HandClock(), MemoryStore) as services:
        tell(services, "one", REGISTERED, *paused("a", 0.5), decided(PURGED, "a", 4, reason="paused", place=1))
        deploy(services, SweepStarted(sweep_id=SWEEP, parameters=RANDOMLY, software_version="1"))
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        for view in VIEW_COLUMNS:
            assert connection.execute(f"SELECT * FROM {view}").fetchall(), view
        texts = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'view'")]
    # Words of SQLite 3.38 and later: an earlier one cannot even open a database whose schema has them.
    assert [sql for sql in texts if "->" in sql or "unixepoch" in sql] == []

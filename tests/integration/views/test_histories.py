"""The views of what happened say it alike on both databases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import structs

from integration.views.by_hand import (
    CUT_OFF_SWEEP,
    PURGED,
    RANDOMLY,
    REFUSED,
    REGISTERED,
    SWEEP,
    Row,
    ask,
    decided,
    deploy,
    paused,
    paused_with_reasons,
    saved,
    shown,
    tell,
)
from quota.domain.events import (
    CheckpointPurged,
    CheckpointTrashed,
    EvictionFailed,
    PolicyParameters,
    PurgeDecided,
    SweepFinished,
    SweepStarted,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
)

if TYPE_CHECKING:
    from quota.bootstrap import Services


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
        "limit_measure": "checkpoints",
        "limit_high": 22,
        "limit_low": 23,
        "usage": 24,
        "usage_after": 38,
        "planned_at": shown(9),
        "policy_version": 39,
        "parameters": structs.asdict(RANDOMLY),
        "software_version": None,
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
        sweep_id=SWEEP,
        decided=6,
        evicted=5,
        failed=4,
        cancelled=3,
        missing=7,
        freed_bytes=2,
        exceeded=("one", "two"),
        errors=("read-only",),
    )
    deploy(services, SweepStarted(sweep_id=SWEEP, parameters=RANDOMLY, software_version="1.2.3"))
    deploy(services, (90.500021, finished))
    deploy(services, (100.25, SweepStarted(sweep_id=CUT_OFF_SWEEP, parameters=plain, software_version="1.2.4")))

    prior = {"approx_steps": 25, "prior_mean": 0.33, "prior_size": 2.0, "min_data_at_rung": 5}
    prior |= {"keep_completed": 1, "min_age_seconds": 0.0, "finished_retention_seconds": 0.0}
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
            "missing": 7,
            "freed_bytes": 2,
            "exceeded": ["one", "two"],
            "errors": ["read-only"],
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
            "missing": 0,
            "freed_bytes": 0,
            "exceeded": [],
            "errors": [],
            "software_version": "1.2.4",
            "actor": "operator",
        },
    ]

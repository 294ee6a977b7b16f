"""What planning loads of an experiment gives the same plans as the whole of it does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from folding import START, uri_of
from quota.domain.events import (
    ExperimentRegistered,
    PolicyParameters,
    TrialCompleted,
    TrialReported,
    TrialStarted,
)
from quota.domain.experiment import ExperimentState
from quota.domain.held_back import held_back
from quota.domain.keeping import Rules
from quota.domain.limits import EffectiveLimit, Limit
from quota.domain.planning import plan_experiment
from quota.domain.scopes import Scope
from quota.domain.standing import standing_of
from quota.projections import snapshots
from quota.testing.memory_store import MemoryStore
from stories import EVICTION_KINDS, RECORDER_KINDS, Step, steps
from streams import append, told
from support import HandClock, create_schema, services_over
from sweeps import DAY, ROOT, sweeps_over

if TYPE_CHECKING:
    from quota.projections.projector import Projector

SCOPES = ("deployment", f"store:{uri_of('t1')}", "store:memory://store/", "label:team=nlp")
POLICIES = tuple(
    PolicyParameters(policy=policy, keep_completed=1) for policy in ("syne-tune", "by_level", "expected-cost")
)


def reachable(_: str) -> None:
    return None


def seen(state: ExperimentState, parameters: PolicyParameters) -> str:
    """Return all that planning makes of a state; as text, in which NaN equals itself."""
    rules = Rules(parameters=parameters, now=START + DAY)
    limits = [
        EffectiveLimit(Limit(scope=scope, measure=measure, high=1, low=1, set_at=START, actor="me"), Scope.parse(scope))
        for scope in SCOPES
        for measure in ("checkpoints", "bytes")
    ]
    standing = standing_of(state, limits, rules, reachable)
    left = [held_back(state, one.scope, one.limit.measure, rules, reachable, set()) for one in limits]
    return repr((standing, left, plan_experiment(state, limits, rules, reachable)))


def test_a_glance_plans_as_the_whole_does(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rungs that are drawn here are small, and a snapshot of some of them has to be older than the rows.
    monkeypatch.setattr(snapshots, "_LEAST_CHANGED", 3)
    create_schema(database_url)
    with services_over(database_url, HandClock(), MemoryStore) as services:
        projector = services.projector

        @settings(
            max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
        )
        @given(steps((*RECORDER_KINDS, *EVICTION_KINDS), least=20, most=90), st.integers(1, 90))
        def check(history: list[Step], first: int) -> None:
            experiment_id, new = told(history)
            append(services, experiment_id, new[:first])
            services.queries.catch_up([experiment_id])
            append(services, experiment_id, new[first:])
            with services.database.read() as connection:
                behind = projector.glance(connection, experiment_id, ranked=True)
            services.queries.catch_up([experiment_id])
            with services.database.read() as connection:
                same_everywhere(projector, connection, behind)
                snapshots_seen.append(len(snapshots.snapshot_positions(connection, experiment_id)))

        snapshots_seen: list[int] = []
        check()
        assert max(snapshots_seen) > 0


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_that_are_complete_are_the_same_ones_though_their_metrics_are_no_numbers(
    database_url: str, mode: Literal["min", "max"]
) -> None:
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        sweeps.services.administration.add_store(ROOT)
        sweeps.send(ExperimentRegistered(mode=mode, rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9))
        metrics = {"a": math.inf, "c": -math.inf, "d": math.nan, "e": math.inf, "f": 1e308, "g": -1e308}
        for trial_id, metric in metrics.items():
            sweeps.send(TrialStarted(trial_id=trial_id), TrialReported(trial_id=trial_id, resource=1, metric=metric))
            if trial_id in "cf":
                sweeps.save(trial_id)
            sweeps.send(TrialCompleted(trial_id=trial_id))
        services = sweeps.services
        services.queries.catch_up(["x"])
        for keep in range(7):
            parameters = PolicyParameters(policy="by_level", keep_completed=keep)
            with services.database.read() as connection:
                whole = services.projector.look(connection, "x")
                glanced = services.projector.glance(connection, "x", ranked=True)
            assert seen(glanced, parameters) == seen(whole, parameters)


def same_everywhere(projector: Projector, connection: Connection, behind: ExperimentState) -> None:
    whole = projector.look(connection, behind.experiment_id)
    assert behind.position == whole.position
    glanced = projector.glance(connection, whole.experiment_id, ranked=True)
    for policy in POLICIES:
        assert seen(glanced, policy) == seen(whole, policy) == seen(behind, policy)
    held = projector.glance(connection, whole.experiment_id, ranked=False)
    assert held.usage == whole.usage

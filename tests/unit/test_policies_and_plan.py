"""Which checkpoints may go, in which order, and how many."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations
from typing import Literal

import msgspec
import pytest

from folding import LEVELS, REGISTERED, START, Story, uri_of
from quota.domain.events import (
    CheckpointMissing,
    CheckpointPinned,
    CheckpointUnpinned,
    PolicyParameters,
    TrialCompleted,
    TrialFailed,
    TrialStopped,
)
from quota.domain.experiment import FIRST_RETRY, LAST_RETRY, ExperimentState, may_retry
from quota.domain.held_back import Obstacle
from quota.domain.keeping import Rules
from quota.domain.limits import EffectiveLimit, Limit
from quota.domain.plan import Plan
from quota.domain.planning import plan_experiment
from quota.domain.policies import Candidate, time_ratio
from quota.domain.policies import candidates as candidates_by
from quota.domain.scopes import Scope
from recomputing import in_order_of_eviction

RANDOM_SEVEN = ["1-2", "3-2", "1-3", "1-1", "3-1"]
"""What seed 7 gave when it was first released: decisions in old logs must stay recomputable."""

BY_LEVEL = PolicyParameters(policy="by_level")
SYNE_TUNE = PolicyParameters()
NOW = START + timedelta(hours=1)


def limit_of(high: int, low: int) -> Limit:
    return Limit(scope="experiments", measure="checkpoints", high=high, low=low, set_at=START, actor="tester")


def plan_of(story: Story, high: int, low: int, parameters: PolicyParameters = BY_LEVEL, *, managed: str = "") -> Plan:
    def obstacle(uri: str) -> Obstacle | None:
        return None if managed in uri else "out_of_reach"

    own = EffectiveLimit(limit_of(high, low), Scope.of_experiment(story.state.experiment_id))
    (plan,) = plan_experiment(story.state, [own], Rules(parameters=parameters, now=NOW), obstacle)
    return plan


def candidates(state: ExperimentState, parameters: PolicyParameters, now: datetime) -> list[Candidate]:
    return candidates_by(state, Rules(parameters=parameters, now=now))


def trials_of(found: tuple[Candidate, ...] | list[Candidate]) -> list[str]:
    return [one.trial_id for one in found]


def paused_story() -> Story:
    """Three paused at level 1 and two at level 3, named by level and rank."""
    story = Story()
    for level, rank in ((1, 3), (3, 2), (1, 1), (3, 1), (1, 2)):
        trial_id = f"{level}-{rank}"
        story.start(trial_id)
        story.pause(trial_id, level, metric=float(rank))
    return story


class TestOrder:
    def test_candidates_are_listed_highest_rung_first_and_then_by_rank(self) -> None:
        found = candidates(paused_story().state, BY_LEVEL, NOW)
        assert trials_of(found) == ["3-1", "3-2", "1-1", "1-2", "1-3"]
        assert [(one.level, one.rank, one.rung_length) for one in found] == [
            (3, 1, 2),
            (3, 2, 2),
            (1, 1, 3),
            (1, 2, 3),
            (1, 3, 3),
        ]
        assert {one.score for one in found} == {None}

    def test_those_with_equal_scores_go_highest_rung_first_and_then_by_rank(self) -> None:
        scored = candidates(paused_story().state, SYNE_TUNE, NOW)
        found = [replace(one, score=0.25, cost_seconds=0.25) for one in scored]
        assert trials_of(in_order_of_eviction(found, SYNE_TUNE, "x")) == ["3-1", "3-2", "1-1", "1-2", "1-3"]

    def test_the_least_expected_loss_goes_first(self) -> None:
        found = candidates(paused_story().state, SYNE_TUNE, NOW)
        scores = [one.score for one in in_order_of_eviction(found, SYNE_TUNE, "x") if one.score is not None]
        assert scores == sorted(one.score for one in found if one.score is not None)
        assert len(scores) == 5
        assert len(set(scores)) > 1
        for one in found:
            assert one.score is not None
            assert one.resume_probability is not None
            assert one.level is not None
            assert one.score == one.resume_probability * one.level

    def test_by_level_takes_the_lowest_rung_first_and_its_worst(self) -> None:
        found = candidates(paused_story().state, BY_LEVEL, NOW)
        assert trials_of(in_order_of_eviction(found, BY_LEVEL, "x")) == ["1-3", "1-2", "1-1", "3-2", "3-1"]

    def test_random_follows_from_the_seed_and_from_nothing_else(self) -> None:
        story = paused_story()
        orders = set()
        for seed in range(20):
            parameters = PolicyParameters(policy="random", seed=seed)
            found = candidates(story.state, parameters, NOW)
            expected = trials_of(in_order_of_eviction(found, parameters, "x"))
            for listed in permutations(found):
                assert trials_of(in_order_of_eviction(listed, parameters, "x")) == expected
            orders.add(tuple(expected))
        assert len(orders) > 10

    def test_random_stays_what_logged_decisions_rest_on(self) -> None:
        parameters = PolicyParameters(policy="random", seed=7)
        found = candidates(paused_story().state, parameters, NOW)
        assert trials_of(in_order_of_eviction(found, parameters, "x")) == RANDOM_SEVEN
        assert trials_of(in_order_of_eviction(found, parameters, "y")) != RANDOM_SEVEN

    @pytest.mark.parametrize(
        "parameters",
        [SYNE_TUNE, PolicyParameters(policy="expected-cost"), BY_LEVEL, PolicyParameters(policy="random", seed=1)],
        ids=lambda one: one.policy,
    )
    def test_a_superseded_one_goes_before_all_others_and_costs_nothing(self, parameters: PolicyParameters) -> None:
        story = paused_story()
        story.start("running")
        for place in ("-a", "-b", "-c"):
            story.save("running", place)
        ordered = in_order_of_eviction(candidates(story.state, parameters, NOW), parameters, "x")
        assert [one.uri for one in ordered[:2]] == [uri_of("running", "-a"), uri_of("running", "-b")]
        assert [(one.reason, one.score, one.level) for one in ordered[:2]] == [("superseded", 0.0, None)] * 2
        assert {one.reason for one in ordered[2:]} == {"paused"}
        assert uri_of("running", "-c") not in [one.uri for one in ordered]


class TestWhatMayGo:
    def test_a_pinned_one_stays_until_it_is_unpinned(self) -> None:
        story = paused_story()
        names = {"trial_id": "1-3", "uri": uri_of("1-3")}
        story.add(CheckpointPinned(**names))
        assert "1-3" not in trials_of(candidates(story.state, BY_LEVEL, NOW))
        # It still counts in its rung.
        assert [one.rung_length for one in candidates(story.state, BY_LEVEL, NOW) if one.level == 1] == [3, 3]
        story.add(CheckpointUnpinned(**names))
        assert "1-3" in trials_of(candidates(story.state, BY_LEVEL, NOW))

    def test_a_pinned_superseded_one_stays(self) -> None:
        story = paused_story()
        story.save("1-1", "-later")
        assert uri_of("1-1") in [one.uri for one in candidates(story.state, BY_LEVEL, NOW)]
        story.add(CheckpointPinned(trial_id="1-1", uri=uri_of("1-1")))
        assert uri_of("1-1") not in [one.uri for one in candidates(story.state, BY_LEVEL, NOW)]

    def test_a_resumed_trial_has_none_and_one_that_ended_has_some_that_cost_nothing(self) -> None:
        story = paused_story()
        story.resume("1-1")
        story.add(TrialStopped(trial_id="1-2"))
        found = candidates(story.state, BY_LEVEL, NOW)
        assert trials_of(found) == ["1-2", "3-1", "3-2", "1-3"]
        assert (found[0].reason, found[0].counts, found[0].cost_seconds) == ("stopped", False, 0.0)
        # Under a limit on checkpoints it does not count, so that it makes no room either.
        assert "1-2" not in trials_of(plan_of(story, 1, 1).evictions)

    @pytest.mark.parametrize("mode", ["min", "max"])
    def test_models_are_kept_best_first_and_of_trials_that_have_one(self, mode: Literal["min", "max"]) -> None:
        story = Story(msgspec.structs.replace(REGISTERED, mode=mode))
        sign = 1.0 if mode == "min" else -1.0
        metrics = {"best": 0.1, "gone": 0.0, "good": 0.2, "bad": 0.9, "diverged": math.nan, "failed": 0.0}
        for trial_id, metric in metrics.items():
            story.start(trial_id)
            story.save(trial_id)
            story.report(trial_id, 27, sign * metric)
            ended = TrialFailed if trial_id == "failed" else TrialCompleted
            story.add(ended(trial_id=trial_id))
        story.add(CheckpointMissing(trial_id="gone", uri=uri_of("gone")))
        assert trials_of(candidates(story.state, BY_LEVEL, NOW)) == ["failed", "diverged", "bad", "good"]

    def test_what_the_store_refused_is_left_alone_for_a_while(self) -> None:
        story = paused_story()
        story.fail(story.decide("1-3"))
        failed_at = story.state.checkpoints[uri_of("1-3")].failed_at
        assert failed_at is not None
        too_early = failed_at + FIRST_RETRY - timedelta(microseconds=1)
        assert "1-3" not in trials_of(candidates(story.state, BY_LEVEL, too_early))
        assert "1-3" in trials_of(candidates(story.state, BY_LEVEL, failed_at + FIRST_RETRY))

    @pytest.mark.parametrize(
        ("failures", "wait"),
        [
            (1, FIRST_RETRY),
            (2, FIRST_RETRY * 2),
            (3, FIRST_RETRY * 4),
            (11, FIRST_RETRY * 1024),
            (12, LAST_RETRY),
            (10**9, LAST_RETRY),
        ],
    )
    def test_the_wait_doubles_up_to_a_day(self, failures: int, wait: timedelta) -> None:
        assert not may_retry(failures, START, START + wait - timedelta(microseconds=1))
        assert may_retry(failures, START, START + wait)

    def test_what_never_failed_need_not_wait(self) -> None:
        assert may_retry(0, None, START)


class TestHowMany:
    @pytest.mark.parametrize(
        ("high", "low", "evicted"), [(5, 1, 0), (6, 5, 0), (4, 4, 1), (4, 2, 3), (4, 1, 4), (1, 1, 4)]
    )
    def test_starts_above_the_high_watermark_and_stops_at_the_low_one(self, high: int, low: int, evicted: int) -> None:
        plan = plan_of(paused_story(), high, low)
        assert plan.usage == 5
        assert len(plan.evictions) == evicted
        assert plan.usage - len(plan.evictions) >= low
        assert plan.shortfall == 0

    @pytest.mark.parametrize("parameters", [SYNE_TUNE, BY_LEVEL], ids=lambda one: one.policy)
    def test_never_goes_below_the_low_watermark(self, parameters: PolicyParameters) -> None:
        story = paused_story()
        for trial_id in ("a", "b", "c"):
            story.start(trial_id)
            story.save(trial_id, "-1")
            story.save(trial_id, "-2")
        usage = story.state.usage.held_checkpoints
        assert usage == 11
        for low in range(1, usage + 1):
            plan = plan_of(story, low, low, parameters)
            assert usage - len(plan.evictions) == max(low, 3)
            assert plan.shortfall == max(0, 3 - low)

    def test_nothing_is_scored_while_the_limit_holds(self) -> None:
        plan = plan_of(paused_story(), 5, 1)
        assert plan.scored == ()
        assert plan.state_position == paused_story().state.position

    def test_what_lies_in_no_store_is_passed_over_for_the_next_best(self) -> None:
        plan = plan_of(paused_story(), 4, 4, managed="trial-3-")
        assert trials_of(plan.evictions) == ["3-2"]
        assert len(plan.scored) == 5

    def test_says_how_much_is_lacking_where_not_enough_may_go(self) -> None:
        plan = plan_of(paused_story(), 2, 1, managed="trial-1-3")
        assert trials_of(plan.evictions) == ["1-3"]
        assert plan.shortfall == 2

    def test_a_running_trial_counts_though_it_has_written_nothing(self) -> None:
        story = paused_story()
        story.start("running")
        assert plan_of(story, 5, 5).usage == 6

    def test_is_the_same_each_time(self) -> None:
        for parameters in (SYNE_TUNE, BY_LEVEL, PolicyParameters(policy="random", seed=3)):
            assert plan_of(paused_story(), 2, 2, parameters) == plan_of(paused_story(), 2, 2, parameters)


class TestTimeRatio:
    def test_is_one_for_an_experiment_without_an_end(self) -> None:
        story = Story()
        for hours in (0, 1, 1_000):
            assert time_ratio(story.state.registered, START + timedelta(hours=hours)) == 1.0

    @pytest.mark.parametrize(
        ("elapsed", "ratio"), [(25.0, 3.0), (50.0, 1.0), (75.0, 1 / 3), (0.0, 1e5), (-7.0, 107 / 1e-3), (400.0, 2.5e-6)]
    )
    def test_is_what_remains_by_what_has_elapsed(self, elapsed: float, ratio: float) -> None:
        story = Story(msgspec.structs.replace(REGISTERED, max_wallclock_seconds=100.0))
        experiment = story.state.registered
        now = experiment.started_at + timedelta(seconds=elapsed)
        assert time_ratio(experiment, now) == pytest.approx(ratio)

    def test_is_what_scores_rest_on(self) -> None:
        story = paused_story()
        assert {one.time_ratio for one in candidates(story.state, SYNE_TUNE, NOW)} == {1.0}


class TestEstimator:
    @pytest.mark.parametrize(("data", "which"), [(4, "overall"), (5, "rung")])
    def test_a_rung_with_little_data_uses_the_overall_one(self, data: int, which: str) -> None:
        story = Story()
        story.start("paused", "reporting")
        story.pause("paused", LEVELS[0], metric=1.0)
        for number in range(data):
            story.report("reporting", LEVELS[0], float(number % 2) * 2)
        (found,) = candidates(story.state, SYNE_TUNE, NOW)
        assert (found.estimator, found.estimator_total) == (which, data)
        assert found.p_better == pytest.approx((0.33 * 2 + (found.estimator_ones or 0)) / (2 + data))

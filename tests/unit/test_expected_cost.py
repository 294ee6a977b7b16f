"""The policy `expected-cost`: what it knows of the next arrivals, and what it makes of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from msgspec import structs

from folding import REGISTERED, START, Story, uri_of
from quota.domain.choosing import Choice, choose
from quota.domain.climbs import PRIOR_SIZE, PRIOR_SPREAD, climbs
from quota.domain.events import CheckpointMissing, CheckpointPinned, ExperimentFinished, PolicyParameters, TrialPaused
from quota.domain.expected_cost import place_values
from quota.domain.first_passage import Passages
from quota.domain.keeping import Rules
from quota.domain.next_arrivals import NextArrivals, next_arrivals
from quota.domain.policies import Candidate, candidates
from recomputing import in_order_of_eviction

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPECTED_COST = PolicyParameters(policy="expected-cost")


def told(*metrics: float) -> Story:
    """Let trials 0, 1, 2 … pause at level 1."""
    story = Story()
    for number, metric in enumerate(metrics):
        story.start(str(number))
        story.report(str(number), 1, metric)
        story.pause(str(number), metric=metric)
    return story


def climb(story: Story, trial_id: str, metric: float) -> None:
    story.resume(trial_id)
    story.report(trial_id, 3, metric)
    story.pause(trial_id, level=3, metric=metric)


def coming(story: Story, most: int = 25) -> Mapping[int, NextArrivals]:
    return next_arrivals(story.state, climbs(story.state.rungs), most)


def scored(story: Story) -> list[Candidate]:
    return candidates(story.state, Rules(parameters=EXPECTED_COST, now=story.events[-1].recorded_at))


def test_a_running_trial_is_expected_where_it_stood_below() -> None:
    story = told(0.1, 0.2, 0.3, 0.4, 0.5)
    for trial_id, metric in (("0", 1.0), ("2", 3.0), ("4", 5.0)):
        climb(story, trial_id, metric)
    assert dict(coming(story)) == {}
    story.resume("3")
    [(level, known)] = coming(story).items()
    assert level == 3
    # Behind trials 0 and 2, before 4; the three have kept their order.
    assert known.places == (2.5 / 4,)
    assert known.spread == pytest.approx(math.sqrt(PRIOR_SIZE * PRIOR_SPREAD**2 / (3 + PRIOR_SIZE)))
    better = known.better_than(np.array([1, 2, 3]) / 4)
    assert better.shape == (1, 3)
    assert better[0, 0] < 0.1 < better[0, 1] < 0.5 < better[0, 2] < 0.9


def test_what_kept_its_order_less_says_less() -> None:
    kept, turned = told(0.1, 0.2, 0.3, 0.4), told(0.1, 0.2, 0.3, 0.4)
    for trial_id, metric in (("0", 1.0), ("1", 2.0), ("2", 3.0)):
        climb(kept, trial_id, metric)
        climb(turned, trial_id, -metric)
    spreads = []
    for story in (kept, turned):
        story.resume("3")
        spreads.append(coming(story)[3].spread)
    assert spreads[0] < PRIOR_SPREAD < spreads[1]


def test_only_so_many_arrivals_are_followed_those_first_that_have_come_farthest() -> None:
    story = told(0.1, 0.2, 0.3, 0.4)
    climb(story, "0", 1.0)
    story.resume("1")
    story.resume("2")
    story.report("2", 2, 0.0)
    # Both stood behind trial 0.
    assert coming(story)[3].places == (0.75, 0.75)
    assert coming(story, 1)[3].places == (0.75,)


def test_a_worse_trial_on_its_way_makes_a_resume_likelier_and_a_better_one_less() -> None:
    def chance(on_its_way: str) -> float:
        story = told(0.1, 0.2, 0.3, 0.4, 0.5)
        for trial_id, metric in (("1", 2.0), ("2", 3.0), ("3", 4.0)):
            climb(story, trial_id, metric)
        story.resume("1", level=3)
        story.resume(on_its_way)
        one = next(one for one in scored(story) if one.trial_id == "2")
        assert one.arrivals_better is not None
        assert one.resume_probability is not None
        return one.resume_probability

    assert chance("4") > chance("0")


def test_a_place_is_worth_the_most_that_any_wait_pays() -> None:
    # With 1/2 after one arrival, with 1/4 more after nine.
    passages = Passages(np.array([[1.0], [9.0]]), np.array([[0.5], [0.25]]))
    short, long = 0.5 / (1 + 1), 0.75 / (1 + 0.5 * 1 + 0.25 * 9 + 0.25 * 9)
    assert short > long
    assert place_values(passages, np.array([27])).tolist() == [pytest.approx(27 * short)]
    passages = Passages(np.array([[1.0], [2.0]]), np.array([[0.1], [0.9]]))
    assert place_values(passages, np.array([27])).tolist() == [pytest.approx(27 / (1 + 0.1 + 0.9 * 2))]


def test_equal_metrics_share_the_rank_of_the_first() -> None:
    story = told(0.1, 0.5, 0.5, 0.5, 0.9)
    ours = {one.trial_id: (one.rank, one.rank_of_equals) for one in scored(story)}
    assert ours == {"0": (1, 1), "1": (2, 2), "2": (3, 2), "3": (4, 2), "4": (5, 5)}
    scores = {one.trial_id: one.score for one in scored(story)}
    assert scores["1"] == scores["2"] == scores["3"]


def test_what_is_promotable_goes_last_of_its_level_and_the_worst_first() -> None:
    story = told(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    ordered = in_order_of_eviction(scored(story), EXPECTED_COST, "story")
    assert [one.trial_id for one in ordered] == ["5", "4", "3", "2", "1", "0"]
    assert ordered[-1].resume_probability == 1.0
    assert ordered[-1].score == 1.0
    assert [one.estimator for one in ordered] == [None] * 6


def test_nothing_of_a_finished_experiment_is_resumed() -> None:
    story = told(0.1, 0.2, 0.3)
    story.add(ExperimentFinished())
    assert {(one.resume_probability, one.score) for one in scored(story)} == {(0.0, 0.0)}


def test_rungs_without_arrivals_are_no_fault() -> None:
    story = told(math.nan, math.inf)
    assert REGISTERED.rung_levels[0] == 1
    assert story.events[-1].recorded_at > START
    assert all(0 <= (one.resume_probability or 0.0) <= 1 for one in scored(story))


@pytest.mark.parametrize("policy", ["expected-cost", "syne-tune"])
def test_what_an_older_checkpoint_keeps_is_not_lost(policy: Literal["expected-cost", "syne-tune"]) -> None:
    def last_of(*, pinned: bool) -> Candidate:
        story = told(0.1, 0.2, 0.3, 0.4)
        climb(story, "1", 1.0)
        story.resume("2")
        story.save("2", resource=1)
        if pinned:
            story.add(CheckpointPinned(trial_id="2", uri=uri_of("2")))
        story.report("2", 3, 2.0)
        story.pause("2", level=3, metric=2.0, place="-b")
        rules = Rules(parameters=PolicyParameters(policy=policy), now=story.events[-1].recorded_at)
        found = candidates(story.state, rules)
        assert {one.reason for one in found if one.uri == uri_of("2")} == (set() if pinned else {"superseded"})
        return next(one for one in found if one.uri == uri_of("2", "-b"))

    with_older, alone = last_of(pinned=True), last_of(pinned=False)
    assert (with_older.kept_resource, alone.kept_resource) == (1, 0)
    assert with_older.resume_probability == alone.resume_probability
    assert with_older.cost_seconds == pytest.approx((alone.cost_seconds or 0.0) * 2 / 3)
    # Syne Tune's own score knows of one checkpoint a trial.
    factor = 2 / 3 if policy == "expected-cost" else 1
    assert with_older.score == pytest.approx((alone.score or 0.0) * factor)


@pytest.mark.parametrize("policy", ["expected-cost", "syne-tune"])
def test_more_than_a_checkpoint_has_is_not_lost_with_it(policy: Literal["expected-cost", "syne-tune"]) -> None:
    def last_of(*, missing: bool) -> Candidate:
        story = told(0.1, 0.2, 0.3, 0.4)
        climb(story, "1", 1.0)
        story.resume("2")
        story.report("2", 3, 2.0)
        story.pause("2", level=3, metric=2.0, place="-b")
        if missing:
            story.add(CheckpointMissing(trial_id="2", uri=uri_of("2", "-b")))
        rules = Rules(parameters=PolicyParameters(policy=policy), now=story.events[-1].recorded_at)
        return next(one for one in candidates(story.state, rules) if one.trial_id == "2" and one.reason == "paused")

    older, newest = last_of(missing=True), last_of(missing=False)
    assert (older.uri, newest.uri) == (uri_of("2"), uri_of("2", "-b"))
    assert (older.level, older.resume_probability) == (3, newest.resume_probability)
    assert older.cost_seconds == pytest.approx((newest.cost_seconds or 0.0) / 3)


@pytest.mark.parametrize("policy", ["expected-cost", "syne-tune"])
def test_nothing_is_gained_by_losing_what_an_older_one_has_too(
    policy: Literal["expected-cost", "syne-tune"],
) -> None:
    story = told(0.1, 0.2, 0.3)
    story.resume("0")
    story.save("0", resource=5)
    story.add(CheckpointPinned(trial_id="0", uri=uri_of("0")))
    story.save("0", "-b", resource=9)
    story.add(TrialPaused(trial_id="0", level=3, metric=0.1))
    rules = Rules(parameters=PolicyParameters(policy=policy), now=story.events[-1].recorded_at)
    (found,) = [one for one in candidates(story.state, rules) if one.trial_id == "0"]
    assert (found.uri, found.kept_resource, found.cost_seconds) == (uri_of("0", "-b"), 5, 0.0)
    assert (found.score or 0.0) >= 0.0


def test_a_time_limit_beyond_all_ends_no_plan() -> None:
    def probabilities_until(seconds: float) -> list[float]:
        story = Story(registered=structs.replace(REGISTERED, max_wallclock_seconds=seconds))
        for number in range(8):
            story.start(str(number))
            story.pause(str(number), metric=float(number))
        at_once = Rules(parameters=EXPECTED_COST, now=story.state.registered.started_at)
        return [one.resume_probability or 0.0 for one in candidates(story.state, at_once)]

    far = probabilities_until(1e5)
    assert min(far) > 0.0
    assert probabilities_until(1e308) == pytest.approx(far, rel=1e-6)


def test_where_bytes_are_needed_too_the_worse_one_of_equals_goes_first() -> None:
    # All may be promoted by now, so that each is as sure to be resumed as any other, and the best one is the first.
    story = told(*(number / 100 for number in range(30)))
    promotable = [Choice("story", one) for one in scored(story) if one.resume_probability == 1.0]
    assert len(promotable) > 5
    for needed in (10, 30):
        chosen = choose(promotable, needed, "bytes", EXPECTED_COST)
        ranks = sorted(choice.candidate.rank or 0 for choice in chosen)
        assert ranks == list(range(len(promotable) + 1 - needed // 10, len(promotable) + 1))

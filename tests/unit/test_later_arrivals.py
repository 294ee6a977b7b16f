"""What is expected of arrivals of which none is on its way yet: by example, and against a simulation of one step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec import structs

from folding import REGISTERED, Story
from quota.domain.climbs import climbs
from quota.domain.events import PolicyParameters
from quota.domain.first_passage import passages
from quota.domain.keeping import Rules
from quota.domain.later_arrivals import ANYWHERE, LaterArrivals, later_arrivals, urn_at
from quota.domain.next_arrivals import next_arrivals
from quota.domain.policies import candidates

EIGHTHS = np.arange(1, 8) / 8
STEPS = 25


def told(*metrics: float, quantile: float = 1 / 3) -> Story:
    """Let trials 0, 1, 2 … pause at level 1."""
    story = Story(structs.replace(REGISTERED, promotion_quantiles=(quantile,) * 3))
    for number, metric in enumerate(metrics):
        story.start(str(number))
        story.report(str(number), 1, metric)
        story.pause(str(number), metric=metric)
    return story


def climb(story: Story, *trial_ids: str) -> None:
    """Let trials come up to level 3, where they rank as they are told."""
    for metric, trial_id in enumerate(trial_ids):
        story.resume(trial_id)
        story.report(trial_id, 3, metric)
        story.pause(trial_id, level=3, metric=metric)


def later(story: Story, level: int, time_ratio: float = 1.0) -> LaterArrivals:
    ways = climbs(story.state.rungs)
    known = next_arrivals(story.state, ways, STEPS)
    return later_arrivals(story.state.rungs, ways, known, time_ratio, STEPS)[level]


def test_new_trials_rank_anywhere_and_come_as_often_as_they_did() -> None:
    story = told(0.1, 0.2, 0.3, 0.4)
    assert later(story, 1, 2.5).expected.sum() == pytest.approx(10)
    assert later(story, 1).better_than(EIGHTHS) == pytest.approx(EIGHTHS)


def test_where_nothing_is_expected_ranks_alone_say_it() -> None:
    assert ANYWHERE.better_than(EIGHTHS).tolist() == EIGHTHS.tolist()
    assert later(told(0.1, 0.2), 1, 0.0).better_than(EIGHTHS).tolist() == EIGHTHS.tolist()


def test_rungs_without_entries_expect_nothing() -> None:
    story = told(0.1, 0.2)
    ways = climbs(story.state.rungs)
    assert dict(ways) == {}
    assert list(later_arrivals(story.state.rungs, ways, {}, 1.0, STEPS)) == [1]
    assert dict(later_arrivals(Story().state.rungs, {}, {}, 1.0, STEPS)) == {}


def test_those_that_wait_below_are_expected_where_they_stood() -> None:
    # Four of six have come up and kept their order; of the two others both will come, and behind most of them.
    story = told(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, quantile=0.99)
    climb(story, "0", "1", "2", "3")
    share_of_last = later(story, 3).better_than(np.array([4 / 5]))[0]
    fair = told(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, quantile=0.99)
    climb(fair, "0", "1", "4", "5")
    assert share_of_last < later(fair, 3).better_than(np.array([4 / 5]))[0]


def test_it_does_not_matter_whether_what_waits_has_its_checkpoint() -> None:
    story = told(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, quantile=0.8)
    climb(story, "0", "1", "2")
    before = later(story, 3).expected.tolist()
    decision_id = story.decide("4")
    story.trash(decision_id)
    story.purge(decision_id)
    assert later(story, 3).expected.tolist() == before


def test_those_that_start_at_an_upper_rung_come_there_from_nowhere() -> None:
    story = told()
    for trial_id, metric in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
        story.start(trial_id)
        story.report(trial_id, 3, metric)
        story.pause(trial_id, level=3, metric=metric)
    found = later(story, 3, 2.0)
    assert found.expected.sum() == pytest.approx(6)
    assert found.better_than(EIGHTHS) == pytest.approx(EIGHTHS)


def test_is_the_mean_of_many_futures_of_one_step() -> None:
    draw = np.random.default_rng(20_261_202)
    story = told(*draw.permutation(12).tolist(), quantile=0.6)
    by_rank = list(story.state.rungs[1].ranking().trial_ids)
    climb(story, *(by_rank[index] for index in (1, 0, 2, 4, 3)))
    story.resume(by_rank[5])
    ratio, paths = 1.5, 40_000
    ways = climbs(story.state.rungs)
    rung, way = story.state.rungs[1], ways[3]

    ranks = np.arange(1, 13)
    chances = passages(ranks, np.zeros((0, 12)), ranks / 13, urn_at(rung, ratio, STEPS)).probability
    # Six wait; eighteen are new, and may rank anywhere.
    places = np.concatenate((np.tile(np.arange(7.0, 13.0), (paths, 1)), draw.random((paths, 18)) * 13), axis=1)
    comes = draw.random(places.shape) < np.interp(places, ranks, chances)
    noise = draw.logistic(scale=way.spread * math.sqrt(3) / math.pi, size=places.shape)
    ranked = way.expected_places(places.ravel() / 13).reshape(places.shape) + noise
    found = later(story, 3, ratio)
    assert found.expected.sum() == pytest.approx(comes.sum() / paths, rel=0.01)
    shares = found.better_than(EIGHTHS)
    for place, share in zip(EIGHTHS, shares, strict=True):
        assert share == pytest.approx((comes & (ranked < place)).sum() / comes.sum(), abs=0.01)


def test_shares_are_chances_whatever_is_expected() -> None:
    heavy = np.zeros(50)
    heavy[-1] = 1e12
    shares = LaterArrivals(heavy).better_than(np.linspace(0.001, 0.999, 9))
    assert ((shares > 0) & (shares < 1)).all()
    assert (np.diff(shares) >= 0).all()


def test_those_on_their_way_to_a_rung_may_go_on_from_there() -> None:
    story = told(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, quantile=0.8)
    climb(story, "0", "1", "2")
    story.resume("0", level=3)
    story.report("0", 9, 0.0)
    story.pause("0", level=9, metric=0.0)
    before = later(story, 9).expected.sum()
    story.resume("3")
    assert later(story, 9).expected.sum() > before


def test_a_candidate_says_what_was_expected() -> None:
    story = told(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, quantile=0.8)
    climb(story, "0", "1", "2")
    rules = Rules(parameters=PolicyParameters(policy="expected-cost"), now=story.events[-1].recorded_at)
    upper = [one for one in candidates(story.state, rules) if one.level == 3]
    relative_ranks = np.array([one.rank for one in upper]) / 4
    shares = later(story, 3).better_than(relative_ranks)
    assert len(upper) == 3
    assert [one.p_better for one in upper] == shares.tolist() != relative_ranks.tolist()

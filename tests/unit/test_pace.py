"""How long a unit of resource takes is a median over reports, and what disturbs a few of them does not move it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folding import Story
from quota.domain.events import Event, TrialReported, TrialStarted
from quota.domain.pace import NO_PACE_SECONDS, Pace, bin_of, seconds_of, usual_seconds


def add_at(story: Story, seconds: int, payload: Event) -> None:
    story.seconds = seconds - 1
    story.add(payload)


@given(st.floats(1e-6, 1e9))
def test_a_bin_stands_for_a_time_close_to_all_that_fall_into_it(seconds: float) -> None:
    assert seconds_of(bin_of(seconds)) == pytest.approx(seconds, rel=0.032)


@given(st.floats(1e-6, 1e9), st.floats(1, 10))
def test_longer_times_have_later_bins(seconds: float, factor: float) -> None:
    assert bin_of(seconds) <= bin_of(seconds * factor)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=50))
def test_the_median_is_that_of_the_reports(found: list[float]) -> None:
    pace = Pace()
    for seconds in found:
        pace.add(seconds)
    assert pace.median_seconds == pytest.approx(sorted(found)[(len(found) - 1) // 2], rel=0.032)


def test_there_is_none_before_the_first_report() -> None:
    assert Pace().median_seconds is None
    assert usual_seconds([]) == NO_PACE_SECONDS
    assert usual_seconds([5.0, 1.0, 30.0, 2.0]) == 2.0


def test_units_are_timed_from_report_to_report_and_from_each_start() -> None:
    story = Story()
    add_at(story, 100, TrialStarted(trial_id="1"))
    for seconds, resource in ((110, 1), (130, 3), (135, 4)):
        add_at(story, seconds, TrialReported(trial_id="1", resource=resource, metric=1.0))
    assert story.state.pace.reports == {bin_of(10.0): 2, bin_of(5.0): 1}
    assert story.state.touched.paces == {bin_of(10.0), bin_of(5.0)}


def test_what_a_trial_repeats_or_reports_out_of_order_is_not_timed() -> None:
    story = Story()
    add_at(story, 100, TrialStarted(trial_id="1"))
    for seconds, resource in ((110, 1), (110, 2), (105, 3), (120, 3)):
        add_at(story, seconds, TrialReported(trial_id="1", resource=resource, metric=1.0))
    assert story.state.pace.reports == {bin_of(10.0): 1}

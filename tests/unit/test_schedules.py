"""Schedules: an interval, or the fields of a crontab."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.triggers.interval import IntervalTrigger

from quota.daemon import trigger_of
from quota.errors import SettingsRefused

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("schedule", "span"), [("1s", 1), ("90s", 90), ("15m", 900), ("1d", 86_400)])
def test_an_interval(schedule: str, span: int) -> None:
    trigger = trigger_of("sweep_schedule", schedule, timedelta())
    assert isinstance(trigger, IntervalTrigger)
    assert trigger.interval == timedelta(seconds=span)


@pytest.mark.parametrize(
    ("schedule", "after_noon"), [("*/5 * * * *", timedelta(minutes=5)), ("30 3 * * *", timedelta(hours=15, minutes=30))]
)
def test_the_fields_of_a_crontab_are_in_utc(schedule: str, after_noon: timedelta) -> None:
    trigger = trigger_of("sweep_schedule", schedule, timedelta())
    assert trigger.get_next_fire_time(NOON, NOON + timedelta(seconds=1)) == NOON + after_noon


@pytest.mark.parametrize("schedule", ["1m", "*/5 * * * *"])
def test_jitter_delays_at_most_by_so_much(schedule: str) -> None:
    assert trigger_of("sweep_schedule", schedule, timedelta(seconds=30)).jitter == 30


@pytest.mark.parametrize("schedule", ["", "soon", "0", "0.5s", "-1m", "* * * *", "61 * * * *", "* * * * * *"])
def test_what_is_neither_is_refused(schedule: str) -> None:
    with pytest.raises(SettingsRefused, match="sweep_schedule"):
        trigger_of("sweep_schedule", schedule, timedelta())

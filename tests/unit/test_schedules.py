"""Schedules: an interval, or the fields of a crontab, which mean what they mean to crond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from apscheduler.triggers.interval import IntervalTrigger

from quota.errors import SettingsRefused
from quota.schedules import trigger_of, triggers
from quota.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""A Thursday."""


def times(schedule: str) -> Iterator[datetime]:
    trigger = trigger_of("sweep_schedule", schedule, timedelta())
    last, now = None, NOON + timedelta(seconds=1)
    while (following := trigger.get_next_fire_time(last, now)) is not None:
        yield following
        last = now = following


def days(schedule: str, number: int) -> list[str]:
    return [f"{moment:%a %d %b}" for moment in islice(times(schedule), number)]


@pytest.mark.parametrize(("schedule", "span"), [("1s", 1), ("90s", 90), ("15m", 900), ("1d", 86_400)])
def test_an_interval(schedule: str, span: int) -> None:
    trigger = trigger_of("sweep_schedule", schedule, timedelta())
    assert isinstance(trigger, IntervalTrigger)
    assert trigger.interval == timedelta(seconds=span)


@pytest.mark.parametrize(
    ("schedule", "after_noon"), [("*/5 * * * *", timedelta(minutes=5)), ("30 3 * * *", timedelta(hours=15, minutes=30))]
)
def test_the_fields_of_a_crontab_are_in_utc(schedule: str, after_noon: timedelta) -> None:
    assert next(times(schedule)) == NOON + after_noon


@pytest.mark.parametrize("sunday", ["0", "7", "sun", "SUN"])
def test_the_week_begins_and_ends_with_sunday(sunday: str) -> None:
    assert days(f"0 0 * * {sunday}", 2) == ["Sun 04 Jan", "Sun 11 Jan"]


@pytest.mark.parametrize(
    ("weekday", "expected"),
    [
        ("1", ["Mon 05 Jan", "Mon 12 Jan", "Mon 19 Jan"]),
        ("1-5", ["Fri 02 Jan", "Mon 05 Jan", "Tue 06 Jan"]),
        ("mon-fri", ["Fri 02 Jan", "Mon 05 Jan", "Tue 06 Jan"]),
        ("5-7", ["Fri 02 Jan", "Sat 03 Jan", "Sun 04 Jan"]),
        ("sat-sun", ["Sat 03 Jan", "Sun 04 Jan", "Sat 10 Jan"]),
        ("0-7", ["Fri 02 Jan", "Sat 03 Jan", "Sun 04 Jan"]),
        ("*/2", ["Sat 03 Jan", "Sun 04 Jan", "Tue 06 Jan"]),
        ("sun,wed", ["Sun 04 Jan", "Wed 07 Jan", "Sun 11 Jan"]),
        ("1-5/2", ["Fri 02 Jan", "Mon 05 Jan", "Wed 07 Jan"]),
    ],
)
def test_days_of_the_week_are_counted_from_sunday(weekday: str, expected: list[str]) -> None:
    assert days(f"0 0 * * {weekday}", 3) == expected


def test_one_of_two_restricted_days_is_enough() -> None:
    assert days("0 0 13 * fri", 5) == ["Fri 02 Jan", "Fri 09 Jan", "Tue 13 Jan", "Fri 16 Jan", "Fri 23 Jan"]
    assert days("0 0 2 jan 5", 6)[-2:] == ["Fri 30 Jan", "Fri 01 Jan"]


def test_a_day_that_begins_with_a_star_restricts_the_other() -> None:
    assert days("0 0 */2 * fri", 2) == ["Fri 09 Jan", "Fri 23 Jan"]


def test_names_lists_ranges_and_steps() -> None:
    assert days("0 0 1 feb,JUN-aug/2 *", 4) == ["Sun 01 Feb", "Mon 01 Jun", "Sat 01 Aug", "Mon 01 Feb"]
    hours = [f"{moment:%H:%M}" for moment in islice(times("30,5 8-18/5 * * *"), 4)]
    assert hours == ["13:05", "13:30", "18:05", "18:30"]


def test_a_leap_day() -> None:
    assert next(times("0 0 29 2 *")).year == 2028


@pytest.mark.parametrize("schedule", ["1m", "*/5 * * * *", "0 0 13 * 5"])
def test_jitter_delays_at_most_by_so_much(schedule: str) -> None:
    assert getattr(trigger_of("sweep_schedule", schedule, timedelta(seconds=30)), "jitter", None) == 30


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ("", "write a number and a unit"),
        ("soon", "write a number and a unit"),
        ("0", "at least 1s"),
        ("0.5s", "at least 1s"),
        ("-1m", "write a number and a unit"),
        ("* * * *", "this has 4"),
        ("* * * * * *", "this has 6"),
        ("61 * * * *", "minute '61': it is one of 0-59"),
        ("99 * * * *", "minute '99'"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of the month '0': it is one of 1-31"),
        ("* * * 13 *", "month '13': it is one of 1-12, or jan, feb"),
        ("* * * * 8", "day of the week '8': it is one of 0-6, or sun, mon"),
        ("* * * * funday", "day of the week 'funday'"),
        ("5-1 * * * *", "minute '5-1': a range ends after it begins"),
        ("*/0 * * * *", "a step is at least 1"),
        ("1,,2 * * * *", "minute ''"),
        ("* * last * *", "day of the month 'last'"),
        ("* * 2nd * *", "day of the month '2nd'"),
        ("* * 30 2 *", "none of its months has a day 30"),
    ],
)
def test_what_is_neither_is_refused(schedule: str, reason: str) -> None:
    with pytest.raises(SettingsRefused, match="sweep_schedule") as refused:
        trigger_of("sweep_schedule", schedule, timedelta())
    assert reason in str(refused.value)


def test_each_job_has_its_own() -> None:
    found = triggers(Settings(sweep_schedule="10s", reconcile_schedule="0 3 * * 1-5"))
    assert list(found) == ["sweep", "purge", "reconcile", "catch_up"]
    with pytest.raises(SettingsRefused, match="purge_schedule"):
        triggers(Settings(purge_schedule="* * * * 9"))

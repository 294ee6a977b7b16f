"""When the daemon's jobs run: at intervals, or by the fields of a crontab."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, timedelta

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from quota.domain.crontab import WEEKDAYS, parse_crontab
from quota.errors import SettingsRefused
from quota.settings import Settings, parse_duration

JOBS = ("sweep", "purge", "reconcile", "catch_up")
"""What the daemon does; the setting `<job>_schedule` says when."""

_SHORTEST = timedelta(seconds=1)


def triggers(settings: Settings) -> dict[str, BaseTrigger]:
    """Return when each job is to run.

    Raises:
        SettingsRefused: a schedule cannot be read.
    """
    return {
        job: trigger_of(f"{job}_schedule", getattr(settings, f"{job}_schedule"), settings.schedule_jitter)
        for job in JOBS
    }


def trigger_of(setting: str, schedule: str, jitter: timedelta) -> BaseTrigger:
    """Return when a job is to run.

    Args:
        setting: The setting's name, for the error.
        schedule: An interval such as `90s`, `15m` or `1d`, or the five fields of a crontab, in UTC.
        jitter: By how much at most each time is delayed at random.

    Raises:
        SettingsRefused: `schedule` is neither.
    """
    seconds = int(jitter.total_seconds()) or None
    try:
        if len(schedule.split()) > 1:
            return _crontab_trigger(schedule, seconds)
        every = parse_duration(schedule)
    except ValueError as error:
        reason = f"{error}; an interval is `15m`, say, and a crontab's five fields `*/5 * * * *`"
        raise SettingsRefused("settings", setting, schedule, reason) from error
    if not isinstance(every, timedelta) or every < _SHORTEST:
        raise SettingsRefused("settings", setting, schedule, f"at least {_SHORTEST.total_seconds():.0f}s")
    return IntervalTrigger(seconds=int(every.total_seconds()), jitter=seconds, timezone=UTC)


def _crontab_trigger(schedule: str, jitter: int | None) -> BaseTrigger:
    """Say a crontab to APScheduler, which counts the days of the week from Monday, and knows no `or` of days."""
    crontab = parse_crontab(schedule)
    at = {
        "minute": _listed(crontab.minutes),
        "hour": _listed(crontab.hours),
        "month": _listed(crontab.months),
        "timezone": UTC,
    }
    days, weekdays = _listed(crontab.days), _listed(WEEKDAYS[day] for day in crontab.weekdays)
    if crontab.either_day:
        return OrTrigger([CronTrigger(**at, day=days), CronTrigger(**at, day_of_week=weekdays)], jitter=jitter)
    return CronTrigger(**at, day=days, day_of_week=weekdays, jitter=jitter)


def _listed(values: Iterable[object]) -> str:
    return ",".join(map(str, values))

"""The five fields of a crontab, read as crond reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
"""Names of the days of the week, in the order of their numbers."""

_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = re.compile(r"(?:(?P<star>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Field:
    """What one of the fields may hold.

    Attributes:
        name: As messages name it.
        first: Its least value.
        last: Its greatest.
        names: Names of its values, from the least on.
    """

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()


_MINUTE, _HOUR = _Field("minute", 0, 59), _Field("hour", 0, 23)
_DAY, _MONTH = _Field("day of the month", 1, 31), _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of the week", 0, 6, WEEKDAYS)
_SUNDAY_TOO = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Crontab:
    """At which times something is due: where all of these hold.

    Attributes:
        minutes: At these minutes.
        hours: In these hours.
        days: On these days of the month.
        months: In these months.
        weekdays: On these days of the week, from 0, Sunday.
        either_day: Whether one of `days` and `weekdays` is enough, as it is where neither field begins with `*`.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool


def parse_crontab(text: str) -> Crontab:
    """Read five fields: numbers, names, `*`, ranges, steps, and lists of these.

    Raises:
        ValueError: they are not five, or one of them is none; the message says which.
    """
    fields = text.split()
    if len(fields) != len(("minute", "hour", "day", "month", "weekday")):
        message = f"a crontab has five fields: minute, hour, day, month, weekday; this has {len(fields)}"
        raise ValueError(message)
    minute, hour, day, month, weekday = fields
    days, months = _values(day, _DAY), _values(month, _MONTH)
    if all(days[0] > _LONGEST_MONTHS[number - 1] for number in months):
        message = f"none of its months has a day {days[0]}"
        raise ValueError(message)
    return Crontab(
        minutes=_values(minute, _MINUTE),
        hours=_values(hour, _HOUR),
        days=days,
        months=months,
        weekdays=_values(weekday, _WEEKDAY),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
    )


def _values(text: str, field: _Field) -> tuple[int, ...]:
    return tuple(sorted({value for part in text.split(",") for value in _part_values(part, field)}))


def _part_values(part: str, field: _Field) -> range | list[int]:
    match = _PART.fullmatch(part)
    if match is None:
        raise _refused(field, part, f"write {field.first}-{field.last}, `*`, `a-b`, `*/n` or a list of these")
    step = 1 if match["step"] is None else int(match["step"])
    if step == 0:
        raise _refused(field, part, "a step is at least 1")
    if match["star"]:
        return range(field.first, field.last + 1, step)
    first = _value(match["first"], field, part)
    last = first if match["step"] is None else field.last
    if match["last"] is not None:
        last = _value(match["last"], field, part)
        if field is _WEEKDAY and last == 0 < first:
            # A week may end with its Sunday as well as begin with it.
            last = _SUNDAY_TOO
    if last < first:
        raise _refused(field, part, "a range ends after it begins; write two, with a comma between")
    values = range(first, last + 1, step)
    return [value % _SUNDAY_TOO for value in values] if field is _WEEKDAY else values


def _value(text: str, field: _Field, part: str) -> int:
    if text.isdecimal():
        value = int(text)
        if field.first <= value <= field.last or (field is _WEEKDAY and value == _SUNDAY_TOO):
            return value
    elif text.lower() in field.names:
        return field.first + field.names.index(text.lower())
    names = f", or {field.names[0]}, {field.names[1]} …" if field.names else ""
    raise _refused(field, part, f"it is one of {field.first}-{field.last}{names}")


def _refused(field: _Field, part: str, reason: str) -> ValueError:
    return ValueError(f"{field.name} {part!r}: {reason}")

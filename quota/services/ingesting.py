"""Reading events from JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from quota.domain.events import RECORDER_EVENTS, NewEvent
from quota.domain.refusal import Refusal
from quota.domain.wire import ENVELOPE_FIELDS, MAX_EVENT_BYTES, NON_FINITE, event_from
from quota.errors import BadInput, IdentityRefused, NumberRefused
from quota.services.recording import Recorder
from quota.services.refusing import error_for

BATCH = 500
_MOST_NESTING = 32
_MOST_MISTAKES = 100


@dataclass(slots=True)
class IngestReport:
    """What came of a file.

    Attributes:
        stored: Events stored.
        stored_before: Events that the log held already.
        lines: How many lines are done with: all up to this one.
    """

    stored: int = 0
    stored_before: int = 0
    lines: int = 0


@dataclass(slots=True)
class CheckReport:
    """What reading a file without storing anything came to.

    Attributes:
        events: Lines that are events.
        mistakes: The first of those that are none, with the reasons, by number.
        refused: How many are none.
    """

    events: int = 0
    mistakes: dict[int, BadInput] = field(default_factory=dict)
    refused: int = 0


@dataclass(frozen=True, slots=True)
class _Unfit:
    """A number that cannot be read. Only once the whole line has been is it known which field holds it."""

    text: str
    reason: str


def parse_line(line: bytes, number: int, actor: str) -> NewEvent | None:
    """Turn one line into an event; None for an empty one.

    Raises:
        BadInput: the line is no event; the message names its number.
    """
    thing = f"line {number}"
    if not line.strip():
        return None
    if len(line) > MAX_EVENT_BYTES:
        reason = f"an event has at most {MAX_EVENT_BYTES} bytes, this line has more"
        raise IdentityRefused(thing, "", ascii(line[:80]), reason)
    fields = _object(line, thing)
    named = fields.get("event_id")
    if isinstance(named, str):
        thing = f"{thing}, event {named}"
    event = event_from(fields, actor=actor, event_id=None, types=RECORDER_EVENTS)
    if isinstance(event, Refusal):
        in_envelope = event.field in fields or event.field in ENVELOPE_FIELDS
        where = event.field if in_envelope else f"data.{event.field}"
        kind = fields.get("type")
        name = f"{thing} ({kind})" if isinstance(kind, str) else thing
        raise error_for(name, Refusal(event.kind, where, event.value, event.reason))
    return event


def bounded_lines(source: BinaryIO) -> Iterator[bytes]:
    """Yield lines, each only as far as it could be an event: what is longer is refused, and its rest is passed over."""
    while line := source.readline(MAX_EVENT_BYTES + 1):
        yield line
        while line and not line.endswith(b"\n"):
            line = source.readline(MAX_EVENT_BYTES + 1)


def check(lines: Iterable[bytes], actor: str) -> CheckReport:
    """Judge each line by itself, and store nothing. Whether the log admits an event is seen when it is stored."""
    report = CheckReport()
    for number, line in enumerate(lines, start=1):
        try:
            report.events += parse_line(line, number, actor) is not None
        except BadInput as error:
            report.refused += 1
            if len(report.mistakes) < _MOST_MISTAKES:
                report.mistakes[number] = error
    return report


def ingest(lines: Iterable[bytes], recorder: Recorder, actor: str) -> Iterator[IngestReport]:
    """Append events from JSON lines, batch by batch; yields what has been done so far after each.

    A batch is stored whole or not at all. A line that is refused ends the reading: the batches before it are
    stored, and reading the file again after mending it stores the rest only.

    Raises:
        BadInput: a line is refused; its batch was not stored.
    """
    report = IngestReport()
    batch: list[NewEvent] = []
    names: dict[str, str] = {}
    number = 0
    for number, line in enumerate(lines, start=1):
        event = parse_line(line, number, actor)
        if event is None:
            continue
        batch.append(event)
        names.setdefault(event.event_id, f"line {number}, event {event.event_id} ({event.payload.TYPE})")
        if len(batch) == BATCH:
            yield _append(recorder, batch, names, report, number)
            batch, names = [], {}
    yield _append(recorder, batch, names, report, number)


def _append(
    recorder: Recorder, batch: list[NewEvent], names: dict[str, str], report: IngestReport, lines: int
) -> IngestReport:
    for receipt in recorder.append(batch, names):
        if receipt.stored_before:
            report.stored_before += 1
        else:
            report.stored += 1
    report.lines = lines
    return report


def _object(line: bytes, thing: str) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        reason = f"the line must be UTF-8; byte {error.start + 1} is not"
        raise IdentityRefused(thing, "", ascii(line[:80]), reason) from error
    try:
        parsed = json.loads(
            text,
            object_pairs_hook=_without_repeats,
            parse_constant=lambda name: NON_FINITE[name],
            parse_float=_finite,
            parse_int=_bounded,
        )
    except RecursionError as error:
        raise IdentityRefused(thing, "", text[:80], "it is nested too deeply") from error
    except BadInput as error:
        raise type(error)(thing, error.field, error.value, error.reason) from error
    except json.JSONDecodeError as error:
        reason = f"the line is no JSON: {error.msg} at character {error.pos + 1}; write one object a line"
        raise IdentityRefused(thing, "", text.strip()[:80], reason) from error
    if not isinstance(parsed, dict):
        raise IdentityRefused(thing, "", parsed, "an event is a JSON object; write one object a line")
    _look_through(parsed, thing, text)
    return parsed


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise IdentityRefused("", name, value, "this key stands in the object twice; readers would differ")
        found[name] = value
    return found


def _finite(text: str) -> float | _Unfit:
    number = float(text)
    if math.isinf(number):
        return _Unfit(text, 'beyond what a double can hold; an infinite metric is written "Infinity"')
    return number


def _bounded(text: str) -> int | _Unfit:
    # Python refuses to convert thousands of digits, with an error that is about Python.
    if len(text) > len(str(2**64)):
        return _Unfit(text, "beyond 2^63; numbers are at most that long")
    return int(text)


def _look_through(parsed: dict[str, Any], thing: str, text: str) -> None:
    """Refuse deep nesting, and numbers that were not read, by their fields. Works without recursion."""
    level: list[tuple[str, object]] = [("", parsed)]
    for _ in range(_MOST_NESTING + 1):
        for path, value in level:
            if isinstance(value, _Unfit):
                raise NumberRefused(thing, path, value.text, value.reason)
        level = [inner for path, outer in level for inner in _inside(path, outer)]
        if not level:
            return
    raise IdentityRefused(thing, "", text[:80], f"it is nested more than {_MOST_NESTING} deep")


def _inside(path: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [(f"{path}.{name}" if path else name, inner) for name, inner in value.items()]
    if isinstance(value, list):
        return [(f"{path}[{index}]", inner) for index, inner in enumerate(value)]
    return []

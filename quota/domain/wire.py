"""From parsed JSON to an event, strictly: what is refused, and which field is to blame."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import Any, TypeVar, get_args

import msgspec
import numpy as np

from quota.domain.events import EVENT_TYPES, Event, NewEvent, instant_problem
from quota.domain.identifiers import event_id_problem, id_problem
from quota.domain.refusal import Refusal, RefusalKind

MAX_EVENT_BYTES = 64 * 1024
NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
"""How a number that JSON has none for is written: as one of these texts."""

_PLACE = re.compile(r" - at (`key` in )?`\$\.?(?P<path>[^`]*)`$")
_FIELD = re.compile(r"`(?P<name>[^`]+)`")
_NUMERIC = re.compile(r"Expected `(int|float)( \| null)?`|Number out of range")
ENVELOPE_FIELDS = frozenset({"event_id", "experiment_id", "type", "schema_version", "occurred_at", "data"})
_NO_TEXT = (bytes, bytearray, memoryview)
_TOO_DEEP = Refusal(RefusalKind.IDENTITY, "data", "…", "it is nested too deeply")
_REQUIRED_FIELDS = ("experiment_id", "type", "occurred_at", "data")


E = TypeVar("E", bound=Event)


def finite_or_named(value: float) -> float | str:
    """Return a number as JSON can hold it: one that is not finite by its name."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def payload_from(cls: type[E], data: object) -> E | Refusal:
    """Turn `data`, as parsed from JSON, into an event of `cls`, or say what is wrong with it."""
    payload = converted_from(cls, data)
    return payload if isinstance(payload, Refusal) else payload.refusal() or payload


def converted_from(cls: type[E], data: object) -> E | Refusal:
    """Do the same by the fields' types alone: what the log holds was checked when it came in.

    Rules may have changed since, and a newer Unicode has assigned what an older one refuses.
    """
    if isinstance(data, dict) and isinstance(data.get("metric"), str):
        data = data | {"metric": NON_FINITE.get(data["metric"], data["metric"])}
    try:
        return msgspec.convert(data, cls)
    except msgspec.ValidationError as error:
        return _refusal_from(cls, str(error), data)
    except RecursionError:
        return _TOO_DEEP


def recheck(payload: E) -> E | Refusal:
    """Check an event that was made in Python as strictly as one that came as JSON.

    Returns:
        The event as it will be read back from the log, or else sending it again would seem to be another event:
        `metric=1` is 1.0 there.
    """
    try:
        data = msgspec.to_builtins(payload, builtin_types=_NO_TEXT, enc_hook=_plain)
    except TypeError:
        # JSON has no word for one of the values; which field holds it, the conversion says.
        data = {name: getattr(payload, name) for name in payload.__struct_fields__}
    except RecursionError:
        return _TOO_DEEP
    return payload_from(type(payload), data)


def _plain(value: object) -> object:
    """Turn what is a number or a text of another library, e.g. NumPy's, into Python's own."""
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, str):
        return "".join(value)
    raise TypeError(type(value).__name__)


def event_from(
    fields: Mapping[str, Any], *, actor: str, event_id: str | None, types: Mapping[str, type[Event]]
) -> NewEvent | Refusal:
    """Turn one JSON object of the wire form into an event, or say what is wrong with it.

    Args:
        fields: The object, with its values as parsed from JSON.
        actor: Who sends it.
        event_id: The id to use where the object has none; None where it must have one.
        types: Which events this sender may send.
    """
    for name in fields:
        if name not in ENVELOPE_FIELDS:
            reason = f"no such field; an event has {', '.join(sorted(ENVELOPE_FIELDS))}"
            return Refusal(RefusalKind.IDENTITY, name, fields[name], reason)
    for name in _REQUIRED_FIELDS if event_id is not None else ("event_id", *_REQUIRED_FIELDS):
        if name not in fields:
            return Refusal(RefusalKind.IDENTITY, name, None, "this field is missing")
    refusal = _envelope_refusal(fields, types)
    if refusal is not None:
        return refusal
    occurred_at = instant_from(fields["occurred_at"])
    if isinstance(occurred_at, Refusal):
        return occurred_at
    payload = payload_from(types[fields["type"]], fields["data"])
    if isinstance(payload, Refusal):
        return payload
    return NewEvent(
        event_id=fields.get("event_id", event_id),
        experiment_id=fields["experiment_id"],
        occurred_at=occurred_at,
        actor=actor,
        payload=payload,
    )


def _envelope_refusal(fields: Mapping[str, Any], types: Mapping[str, type[Event]]) -> Refusal | None:
    identity = RefusalKind.IDENTITY
    for name in ("event_id", "experiment_id", "type"):
        if name in fields and not isinstance(fields[name], str):
            return Refusal(identity, name, fields[name], "this must be text")
    problem = event_id_problem(fields["event_id"]) if "event_id" in fields else None
    if problem is not None:
        return Refusal(identity, "event_id", fields["event_id"], problem)
    problem = id_problem(fields["experiment_id"])
    if problem is not None:
        return Refusal(identity, "experiment_id", fields["experiment_id"], problem)
    cls = types.get(fields["type"])
    if cls is None:
        known = ", ".join(types)
        reason = "a recorder may not send this type" if fields["type"] in EVENT_TYPES else "no such type"
        return Refusal(identity, "type", fields["type"], f"{reason}; known are {known}")
    version = fields.get("schema_version", cls.SCHEMA_VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or version != cls.SCHEMA_VERSION:
        reason = f"this software speaks version {cls.SCHEMA_VERSION} of {cls.TYPE}; upgrade the older side"
        return Refusal(identity, "schema_version", version, reason)
    return None


def instant_from(text: object) -> datetime | Refusal:
    """Turn ISO 8601 text with a zone into a time in UTC, or say what is wrong with it."""
    example = "write ISO 8601 with a zone, e.g. 2026-11-23T15:00:00.123Z"
    if not isinstance(text, str):
        return Refusal(RefusalKind.TIME, "occurred_at", text, example)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return Refusal(RefusalKind.TIME, "occurred_at", text, f"this is no time; {example}")
    problem = instant_problem(moment)
    if problem is not None:
        return Refusal(RefusalKind.TIME, "occurred_at", text, f"{problem}; {example}")
    return moment.astimezone(UTC)


def _refusal_from(cls: type[Event], message: str, data: object) -> Refusal:
    """Read the field and its value out of msgspec's message."""
    place = _PLACE.search(message)
    path = place["path"] if place else ""
    reason = message[: place.start()] if place else message
    if reason.startswith(("Object contains unknown field", "Object missing required field")):
        named = _FIELD.search(reason)
        name = named["name"] if named else ""
        field = f"{path}.{name}" if path else name
        value = data.get(name) if isinstance(data, dict) else None
        said = "no such field" if "unknown" in reason else "this field is missing"
        fields = ", ".join(one.name for one in msgspec.structs.fields(cls))
        return Refusal(RefusalKind.IDENTITY, field, value, f"{said}; {cls.TYPE} has {fields or 'no fields'}")
    numeric = _NUMERIC.match(reason) is not None
    kind = RefusalKind.NUMBER if numeric else RefusalKind.IDENTITY
    if reason.startswith("Invalid enum value"):
        allowed = [get_args(one.type) for one in msgspec.structs.fields(cls) if one.name == path]
        reason += f"; it is one of {', '.join(allowed[0])}" if allowed else ""
    return Refusal(kind, path or "data", value_at(data, path), reason[:1].lower() + reason[1:])


def value_at(data: object, path: str) -> object:
    """Follow a path such as `rung_levels[2]` or `labels[...]` as far as it leads."""
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(data, dict) and step in data:
            data = data[step]
        elif isinstance(data, list | tuple) and step.isdecimal() and int(step) < len(data):
            data = data[int(step)]
        else:
            break
    return data

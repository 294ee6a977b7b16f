"""The page about the wire form, made from the events' own documentation."""

from __future__ import annotations

import inspect
import re
from typing import Literal, get_args, get_origin

import msgspec

from quota.domain.events import RECORDER_EVENTS, Event

_HEADING = """# Events in the wire form

What `ckpt-quota ingest` reads: one JSON object a line, UTF-8. `ckpt-quota audit export` writes the same form, with the
events of sweeps besides, which nobody may send. The fields are

| field | meaning |
| --- | --- |
| `event_id` | A UUID, best a UUIDv7: sending an event twice stores it once. |
| `experiment_id` | The experiment. |
| `type` | One of those below. |
| `occurred_at` | When it happened: ISO 8601 with a zone, e.g. `2026-11-23T15:00:00.123Z`. |
| `data` | An object with the type's own fields, and no others. |
| `schema_version` | May be left out. |

A metric that is no number is written `"NaN"`, `"Infinity"` or `"-Infinity"`. An event has at most 64 KiB, and is nested
at most 32 deep. A field with a default may be left out.

**Ids** of experiments and trials are texts of 1 to 200 bytes of UTF-8, in Unicode's normal form C, without blanks at
either end, and without control, invisible, bidirectional, private-use and unassigned characters. `_deployment`,
`_orphans`, `.trash`, `.` and `..` are reserved. An `event_id` is written in lower case, with hyphens. Places are URIs
in their one spelling: absolute, without `.` and `..`, a directory without a final `/`, a prefix in a bucket with one.

**Order**: events are stored in the order of the lines, 500 at a time, all of these or none. An experiment's events come
as they happened: first that it is registered, a trial's start before its reports, a report before the pause that
follows from it. A line that is refused ends the reading; the 500s before it are stored, so mend it and send the whole
file again, for what is stored already is not stored twice. `ckpt-quota ingest --check` stores nothing and shows what is
wrong with each line by itself; what the log says of it is seen only when it is stored.

**Values of a config** are whatever JSON has a word for. A number that is none (`NaN`), or an integer beyond 2^63, is
sent as text.
"""
_ATTRIBUTE = re.compile(r"^    (?P<name>\w+): (?P<text>.+(?:\n     .+)*)", re.MULTILINE)


def wire_page() -> str:
    """Return `docs/wire-form.md`."""
    return "\n".join([_HEADING, *map(_section, RECORDER_EVENTS.values())])


def _section(cls: type[Event]) -> str:
    summary = inspect.cleandoc(cls.__doc__ or "").split("\n\n", maxsplit=1)[0].replace("\n", " ")
    meanings = _meanings(cls)
    rows = [
        f"| `{field.name}` | {_kind(field.type)} | {_default(field)} | {meanings[field.name]} |"
        for field in msgspec.structs.fields(cls)
    ]
    table = "\n| field | type | default | meaning |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
    return f"## {cls.TYPE}\n\n{summary}\n{table if rows else ''}"


def _meanings(cls: type[Event]) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        documented = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        found |= {match["name"]: re.sub(r"\s+", " ", match["text"]) for match in _ATTRIBUTE.finditer(documented)}
    return found


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return ""
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{msgspec.json.encode(field.default_factory()).decode()}`"
    return f"`{msgspec.json.encode(field.default).decode()}`"


def _kind(kind: object) -> str:
    """Say a field's type in JSON's words."""
    if get_origin(kind) is Literal:
        return " or ".join(f'`"{value}"`' for value in get_args(kind))
    text = str(kind)
    words = {"dict": "object", "tuple": "array", "int": "integer", "float": "number", "str": "string"}
    if text.startswith("<class"):
        return words[getattr(kind, "__name__", "str")]
    found = next(word for name, word in words.items() if name in text)
    return f"{found} or null" if "None" in text and found in {"integer", "number", "string"} else found

"""How rows are written out: as CSV, or as JSON lines. Each value means the same from either database."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnClause

from quota.eventlog.types import JsonText, iso_text

Columns = Sequence[ColumnClause[Any]]
Rows = Iterable[Sequence[Any]]


def non_finite(value: float) -> str:
    """Return how a number that JSON has no word for is written, as in the wire form."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def csv_lines(columns: Columns, rows: Rows) -> Iterator[bytes]:
    """Yield a header and one line a row (RFC 4180, but for lines that end in a bare newline), in UTF-8.

    NULL is an empty field; times are UTC, digests hexadecimal.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    yield _taken(buffer)
    for row in rows:
        writer.writerow([_csv_value(value) for value in row])
        yield _taken(buffer)


def json_lines(columns: Columns, rows: Rows) -> Iterator[bytes]:
    """Yield one JSON object a row, in UTF-8. What the database holds as JSON stands in it as it is stored."""
    heads = [f"{json.dumps(column.name)}: " for column in columns]
    embedded = [isinstance(column.type, JsonText) for column in columns]
    for row in rows:
        fields = (
            head + (value if is_json and value is not None else _json_value(value))
            for head, is_json, value in zip(heads, embedded, row, strict=True)
        )
        yield f"{{{', '.join(fields)}}}\n".encode()


def _taken(buffer: io.StringIO) -> bytes:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()


def _csv_value(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else non_finite(value)
    return _text(value)


def _json_value(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'"{non_finite(value)}"'
    return json.dumps(_text(value), ensure_ascii=False)


def _text(value: object) -> object:
    if isinstance(value, datetime):
        return iso_text(value)
    return value.hex() if isinstance(value, bytes) else value

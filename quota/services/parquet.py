"""Rows as Parquet, by pyarrow, which is an extra: it is loaded when it is needed, and its want is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from sqlalchemy import BigInteger, Boolean, Double, Integer, LargeBinary

from quota.errors import SettingsRefused
from quota.eventlog.types import Instant
from quota.services.export_formats import Columns, Rows

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ROWS = 50_000
_MOST_BYTES = 32 * 1024 * 1024
"""How much a row group holds at most, and so what is in memory at once; of bytes, those of texts are counted."""


def require_pyarrow(thing: str) -> None:
    """Check that Parquet can be written and read.

    Args:
        thing: What needs it.

    Raises:
        SettingsRefused: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        advice = "it needs pyarrow; install it with: pip install 'checkpoint-quota[parquet]'"
        raise SettingsRefused(thing, "format", "parquet", advice) from error


def write_parquet(stream: BinaryIO, columns: Columns, rows: Rows) -> int:
    """Write rows, in row groups of bounded size.

    Args:
        stream: Where to.
        columns: What the rows consist of.
        rows: The rows.

    Returns:
        How many there were.
    """
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    schema, written = _schema(columns), 0
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for group in _groups(rows):
            arrays = [
                pa.array(values, field.type) for values, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=len(group))
            written += len(group)
    return written


def _groups(rows: Rows) -> Iterator[list[Any]]:
    group: list[Any] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
        if len(group) == _MOST_ROWS or size >= _MOST_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _schema(columns: Columns) -> pa.Schema:
    import pyarrow as pa  # noqa: PLC0415

    kinds = (
        (Instant, pa.timestamp("us", tz="UTC")),
        ((BigInteger, Integer), pa.int64()),
        (Double, pa.float64()),
        (Boolean, pa.bool_()),
        (LargeBinary, pa.binary()),
    )

    def kind_of(column: Any) -> pa.DataType:  # noqa: ANN401 - a column of any type
        return next((arrow for ours, arrow in kinds if isinstance(column.type, ours)), pa.string())

    return pa.schema([(column.name, kind_of(column)) for column in columns])

"""Column types that mean the same on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import DateTime, Dialect, String, Text, Uuid, any_, literal
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

_ISO_LENGTH = 27
_SHORT_LIST = 50
"""Up to how many values a list is found faster than an array: measured at 1, 10, 100 and 500, with 16 partitions."""

# Bytewise order on both databases, so that ranges of keys mean the same.
BytewiseText = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def iso_text(moment: datetime) -> str:
    """Return `moment` in UTC as `2026-11-23T15:00:00.123000Z`, always with microseconds, so that text sorts."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Instant(TypeDecorator[datetime]):
    """A time in UTC: `timestamptz` on PostgreSQL, ISO 8601 text with microseconds and `Z` on SQLite."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the database's own type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(String(_ISO_LENGTH))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 - SQLAlchemy's
        """Write text where the database has no type of its own."""
        if value is None or dialect.name == "postgresql":
            return value
        return iso_text(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ANN401
        """Read an aware time in UTC."""
        if value is None:
            return None
        moment = value if dialect.name == "postgresql" else _moment(value)
        return cast("datetime", moment).astimezone(UTC)


def _moment(written: str) -> datetime:
    """Read what `iso_text` writes, and nothing else: other spellings of a time sort elsewhere, and no hash tells them.

    Raises:
        ValueError: it is written otherwise, or is no time.
        TypeError: it is no text.
    """
    moment = datetime.fromisoformat(written)
    if f"{written[:-1]}+00:00" != moment.isoformat(timespec="microseconds") or written[-1] != "Z":
        message = f"a time is written {written!r}, and not as {iso_text(moment)!r}"
        raise ValueError(message)
    return moment


class JsonText(UserDefinedType[str]):
    """A column of type JSON, read and written as the exact text, so that a hash has bytes to stand on."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:  # noqa: ANN401 - SQLAlchemy's signature
        """Name the type in DDL."""
        return "JSON"

    def column_expression(self, colexpr: ColumnElement[Any]) -> ColumnElement[Any]:
        """Select the text and not what a driver would parse from it."""
        return sql_cast(colexpr, Text)


class UuidText(TypeDecorator[str]):
    """A UUID: of the type `uuid` on PostgreSQL, its usual 36 characters on SQLite."""

    impl = Uuid
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the database's own type."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=False))
        return dialect.type_descriptor(String(36))


def is_one_of(column: ColumnElement[str], ids: Sequence[str], dialect: Dialect) -> ColumnElement[bool]:
    """Return the condition that a column of UUIDs has one of `ids`.

    For each partition PostgreSQL plans the values of a list one by one, and an array at once, but with more ado.
    """
    if dialect.name == "sqlite" or len(ids) <= _SHORT_LIST:
        return column.in_(ids)
    return column == any_(literal(ids, postgresql.ARRAY(UuidText)))

"""What Alembic leaves out when it compares a database with the tables in the code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quota.eventlog.tables import ONLY_ON, PARTITIONS


def left_out(dialect: str) -> Mapping[str, Any]:
    """Return the options by which it leaves out partitions, and keys of the other kind of database.

    What a partition has follows from what it is a part of.
    """

    def include_name(name: str | None, *_: object) -> bool:
        return name not in PARTITIONS

    def include_object(one: Any, *_: object) -> bool:  # noqa: ANN401 - a table, a column, a key, ...
        return bool(one.info.get(ONLY_ON, dialect) == dialect)

    return {"include_name": include_name, "include_object": include_object}

"""The cookbook's questions, as docs/auditing.md has them; as a command, it writes their answers into the page anew.

`python -m cookbook DATABASE`, in `tests`, with the path of a demo's database.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import insert, text

from quota.eventlog.database import Database
from quota.eventlog.tables import metadata

if TYPE_CHECKING:
    from sqlalchemy import Connection

PAGE = Path(__file__).parents[1] / "docs" / "auditing.md"
_QUESTION = re.compile(
    r"### (?P<title>[^\n]+)\n.*?```sql\n(?P<sql>.*?);\n```\n\n```text\n(?P<answer>.*?)```\n", re.DOTALL
)
_PAGE = 2_000


@dataclass(frozen=True)
class Question:
    """One of the page.

    Attributes:
        title: Its heading.
        sql: The statement, without its semicolon.
        answer: The table below it.
    """

    title: str
    sql: str
    answer: str


def questions() -> list[Question]:
    return [Question(**found.groupdict()) for found in _QUESTION.finditer(PAGE.read_text())]


def copy_rows(source: Connection, target: Connection) -> None:
    """Copy all rows to an empty database of the other kind, which numbers the events by itself."""
    for table in metadata.sorted_tables:
        columns = [column for column in table.c if column.name != "global_position"]
        for rows in source.execute(table.select().with_only_columns(*columns)).mappings().partitions(_PAGE):
            target.execute(insert(table), [dict(row) for row in rows])


def answer(connection: Connection, sql: str) -> str:
    """Ask, and return a table as text; numbers as both databases have them, and NULL as nothing."""
    # A colon within a statement is no parameter.
    result = connection.execute(text(sql.replace(":", r"\:")))
    rows = [list(result.keys()), *([_shown(value) for value in row] for row in result)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [" | ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    lines.append(f"({len(rows) - 1} row{'' if len(rows) == 2 else 's'})")
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return format(float(value), ".10g") if isinstance(value, float | Decimal) else str(value)


def _main() -> None:
    page = PAGE.read_text()
    with Database(f"sqlite:///{Path(sys.argv[1]).resolve()}").read() as connection:
        for one in questions():
            found = f"{one.sql};\n```\n\n```text\n"
            page = page.replace(found + one.answer, found + answer(connection, one.sql))
    PAGE.write_text(page)


if __name__ == "__main__":
    _main()

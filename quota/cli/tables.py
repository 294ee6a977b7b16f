"""Text for people: tables as wide as they must be where nobody looks, and fitted to a terminal; sizes and times."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDTH_OF_ANY_TABLE = 10_000
_LEAST_PROSE = 30
_KILO = 1_000
_HARDLY_ANY = 0.0001
_NO_PLACE = len("file:///")


class Small(float):
    """A probability, or a loss that follows from one: of what is hardly anything a table says just that."""

    __slots__ = ()


@dataclass(frozen=True)
class _Layout:
    """A table as it may be printed.

    Attributes:
        columns: The columns' names.
        rows: Their texts.
        numeric: Names of those that hold numbers.
        prose: The column that may be wrapped, and how wide it is then.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[str]
    prose: tuple[str, int | None] = ("", None)

    def without(self, name: str) -> _Layout:
        """Leave out a column."""
        index = self.columns.index(name)
        columns = [column for column in self.columns if column != name]
        return replace(self, columns=columns, rows=[[*row[:index], *row[index + 1 :]] for row in self.rows])

    def below(self, name: str, place: str) -> _Layout:
        """Leave out how the URIs of a column begin."""
        index = self.columns.index(name)
        rows = [[*row[:index], row[index].removeprefix(place), *row[index + 1 :]] for row in self.rows]
        return replace(self, rows=rows)

    def fitted(self, width: int) -> _Layout | None:
        """Return the table as it fits into so many columns; None where it does not."""
        if self.width() <= width:
            return self
        name = self.prose[0]
        if name not in self.columns:
            return None
        room = width - self.without(name).width() - len("   ")
        return replace(self, prose=(name, room)) if room >= _LEAST_PROSE else None

    def width(self) -> int:
        """Return how many columns of a terminal it takes."""
        return screen(_WIDTH_OF_ANY_TABLE).measure(self.table()).maximum

    def table(self) -> Table:
        """Return it for Rich, which takes none of our texts for markup."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in self.columns:
            width = self.prose[1] if name == self.prose[0] else None
            table.add_column(
                Text(name),
                justify="right" if name in self.numeric else "left",
                no_wrap=width is None,
                overflow="fold",
                width=width,
            )
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


def screen(width: int | None = None) -> Console:
    """Return where tables go. Ids may look like Rich's markup, or like its names of emoji."""
    from rich.console import Console

    return Console(width=width, highlight=False, markup=False, emoji=False)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    empty: str,
    *,
    places: str = "",
    prose: str = "",
    optional: Sequence[str] = (),
) -> None:
    """Print a table; numbers to the right. Where there are no rows, print `empty`.

    Where the terminal is too narrow for it, it is made to fit, and says so; where it cannot be, each row is a
    paragraph.

    Args:
        title: Its first line; empty where it has none.
        columns: Names of the columns.
        rows: Their values.
        empty: What to say where there are no rows.
        places: The column of URIs that may be cut to what follows the place that they share.
        prose: The column whose texts may be wrapped.
        optional: Columns that may be left out, in the order in which they go.
    """
    if not rows:
        typer.echo(empty)
        return
    named = dict(zip(columns, zip(*rows, strict=True), strict=True))
    numeric = frozenset(name for name, values in named.items() if all(_is_number(value) for value in values))
    whole = _Layout(columns, [[*map(shown, row)] for row in rows], numeric, prose=(prose, None))
    if title:
        write(title)
    there = screen()
    if not there.is_terminal:
        _print_whole(whole)
        return
    fitted, notes = _fitted(whole, there.width, places, optional)
    if fitted is None:
        _print_records(whole)
        return
    there.print(fitted.table(), crop=False)
    for note in notes:
        write(note)


def _fitted(layout: _Layout, width: int, places: str, optional: Sequence[str]) -> tuple[_Layout | None, list[str]]:
    """Make a table fit, by what its reader misses least; return it with what to say about that."""
    fitted = layout.fitted(width)
    if fitted is not None:
        return fitted, []
    left_out: list[str] = []
    shared = _shared_place(layout, places) if places else ""
    if shared:
        layout = layout.below(places, shared)
        fitted = layout.fitted(width)
    for name in optional:
        if fitted is not None:
            break
        layout = layout.without(name)
        left_out.append(name)
        fitted = layout.fitted(width)
    notes = [f"{places}: below {shared}"] if shared and places not in left_out else []
    if left_out:
        notes.append(f"left out: {', '.join(left_out)}; --json or a wider terminal shows them")
    return fitted, notes


def _shared_place(layout: _Layout, places: str) -> str:
    """Return how all URIs of a column begin, up to a slash; empty where they share next to nothing."""
    index = layout.columns.index(places)
    above = [f"{row[index].rstrip('/').rpartition('/')[0]}/" for row in layout.rows if "://" in row[index]]
    shared = above[0] if above else ""
    for place in above:
        while not place.startswith(shared):
            shared = f"{shared.rstrip('/').rpartition('/')[0]}/"
    return shared if len(shared) > _NO_PLACE else ""


def _print_whole(layout: _Layout) -> None:
    """Print what nobody looks at: nothing is cut off, and no line ends in blanks."""
    wide = screen(_WIDTH_OF_ANY_TABLE)
    with wide.capture() as captured:
        wide.print(layout.table(), crop=False)
    for line in captured.get().splitlines():
        write(line.rstrip())


def _print_records(layout: _Layout) -> None:
    width = max(map(len, layout.columns))
    for row in layout.rows:
        write("")
        for name, value in zip(layout.columns, row, strict=True):
            write(f"{name:<{width}}  {value}")


def write(line: str) -> None:
    """Print a line of text."""
    # Click would put `?` for what the locale cannot spell.
    sys.stdout.write(f"{line}\n")


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)


def shown(value: object) -> str:
    """Return a value as a table shows it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Small() if 0 < value < _HARDLY_ANY:
            return f"<{_HARDLY_ANY}"
        case float():
            return f"{value:.4g}"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case _:
            return str(value)


def small(value: float | None) -> Small | None:
    """Return a number that may be hardly anything; None where there is none."""
    return None if value is None else Small(value)


def counted(number: int, thing: str) -> str:
    """Return how many there are of something: 1 file, 2 files."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def sizes_text(one: int | None, other: int | None) -> tuple[str | None, str | None]:
    """Return two sizes, in bytes where they differ by too little to be told apart otherwise."""
    texts = tuple(None if size is None else size_text(size) for size in (one, other))
    if one != other and texts[0] == texts[1]:
        return f"{one} B", f"{other} B"
    return texts[0], texts[1]


def size_text(size_bytes: float) -> str:
    """Return a size as people write it: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size_bytes) < _KILO:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= _KILO
    return f"{size_bytes:.1f} PB"


def duration_text(duration: timedelta) -> str:
    """Return a duration as settings take it: 90s, 15m, 1h or 7d."""
    seconds = duration.total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def age_text(age: timedelta) -> str:
    """Return an age in its largest unit: 90s, 15m, 3h or 12d."""
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def picked(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[Any]]:
    """Return some columns of rows."""
    return [[row[name] for name in names] for row in rows]

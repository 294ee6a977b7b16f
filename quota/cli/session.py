"""What the commands share: options, an open database, and output for people or machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from quota.bootstrap import Services
    from quota.domain.events import PolicyParameters
    from quota.settings import Settings

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", "-d", metavar="URL", help="The database; QUOTA_DATABASE or sqlite:///quota.db."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
ExperimentOption = Annotated[
    list[str] | None, typer.Option("--experiment", "-e", metavar="ID", help="Only this one; may be repeated.")
]
PolicyOption = Annotated[
    str | None, typer.Option("--policy", metavar="NAME", help="syne-tune (default), by_level or random.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="What `random` draws by; a new one by default.")
]

_WIDTH_WITHOUT_TERMINAL = 200
_WIDTH_OF_ANY_TABLE = 10_000
_KILO = 1_000


@contextmanager
def opened(database: str | None, **given: Any) -> Iterator[tuple[Services, Settings]]:  # noqa: ANN401
    """Load the settings and open the database."""
    from quota.bootstrap import services
    from quota.settings import load_settings

    settings = load_settings(database=database, **given)
    with services(settings.database, settings.actor) as found:
        yield found, settings


def chosen(services: Services, experiment_ids: Sequence[str] | None) -> list[str]:
    """Return the experiments to look at: those named, or all.

    Raises:
        NotFound: one of those named does not exist.
    """
    if not experiment_ids:
        return services.queries.experiment_ids()
    for experiment_id in experiment_ids:
        services.queries.require(experiment_id)
    return list(experiment_ids)


def policy_parameters(settings: Settings, seed: int | None) -> PolicyParameters:
    """Return the policy and what it depends on. The policy `random` gets a new seed where none is given.

    Raises:
        SettingsRefused: a seed is given to a policy that takes none.
    """
    import secrets

    from quota.domain.events import PolicyParameters
    from quota.errors import SettingsRefused

    if settings.policy == "random" and seed is None:
        seed = secrets.randbelow(2**32)
    parameters = PolicyParameters(
        policy=settings.policy,
        approx_steps=settings.approx_steps,
        prior_mean=settings.prior_mean,
        prior_size=settings.prior_size,
        min_data_at_rung=settings.min_data_at_rung,
        seed=seed,
    )
    refusal = parameters.refusal()
    if refusal is not None:
        raise SettingsRefused("policy", refusal.field, refusal.value, refusal.reason)
    return parameters


def console() -> Console:
    """Return a console for tables; wide where nobody looks, so that nothing is cut off."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL, highlight=False)


def progress(*, quiet: bool) -> Progress:
    """Return a progress bar on stderr; it says nothing where nobody looks."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    screen = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=screen,
        transient=True,
        disable=quiet or not screen.is_terminal,
    )


class MovesBar:
    """Shows how many checkpoints are moved."""

    def __init__(self, bar: Progress, task: str) -> None:
        self._bar = bar
        self._description = task
        self._task: TaskID | None = None
        self._total = 0

    def expect(self, checkpoints: int) -> None:
        """Make the bar longer."""
        self._total += checkpoints
        if self._task is None:
            self._task = self._bar.add_task(self._description, total=self._total)
        self._bar.update(self._task, total=self._total)

    def moved(self) -> None:
        """Move the bar on."""
        if self._task is not None:
            self._bar.advance(self._task)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    typer.echo(json.dumps(value, default=_plain, ensure_ascii=not is_utf8))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print a table; numbers to the right. Where there are no rows, print `empty`.

    Where the terminal is too narrow for it, each row is a paragraph: ids are there to be copied.
    """
    from rich import box
    from rich.table import Table

    if not rows:
        typer.echo(empty)
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(shown(value) for value in row))
    screen, needed = console(), _natural_width(table)
    if not screen.is_terminal:
        # Nobody looks, so nothing is cut off, and no line ends in blanks.
        with screen.capture() as captured:
            screen.width = needed
            screen.print(table, crop=False)
        # Click would put `?` for what the locale cannot spell.
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())
        return
    if needed <= screen.width:
        screen.print(table, crop=False)
        return
    width = max(map(len, columns))
    if title:
        typer.echo(title)
    for row in rows:
        typer.echo("")
        for name, value in zip(columns, row, strict=True):
            typer.echo(f"{name:<{width}}  {shown(value)}")


def _natural_width(table: Table) -> int:
    from rich.console import Console

    return Console(width=_WIDTH_OF_ANY_TABLE).measure(table).maximum


def shown(value: object) -> str:
    """Return a value as a table shows it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case _:
            return str(value)


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


def picked(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[Any]]:
    """Return some columns of rows."""
    return [[row[name] for name in names] for row in rows]

"""What the commands share: options, an open database, and output for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

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
    str | None, typer.Option("--policy", metavar="NAME", help="expected-cost (default), syne-tune, by_level or random.")
]
LogFormatOption = Annotated[
    str | None,
    typer.Option("--log-format", metavar="FORM", help="text, or json for one object a line on standard error."),
]
MostEvictionsOption = Annotated[
    int | None, typer.Option("--most-evictions", metavar="N", help="Leave what is more to the next sweep.")
]
MostEvictedBytesOption = Annotated[
    str | None, typer.Option("--most-evicted-bytes", metavar="SIZE", help="Likewise: 500GB, 10TB.")
]
RetentionOption = Annotated[
    str | None,
    typer.Option("--trash-retention", metavar="TIME", help="How long evictions can be undone: 90s, 1h, 7d or 0."),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="What `random` draws by; a new one by default.")
]


@contextmanager
def opened(
    database: str | None,
    *,
    logs: bool = False,
    **given: Any,  # noqa: ANN401
) -> Iterator[tuple[Services, Settings]]:
    """Load the settings and open the database.

    Args:
        database: Its URL, as the command line has it.
        logs: Whether the command says what it has to say as log lines, where the settings want JSON.
        **given: Other settings, as the command line has them.
    """
    from quota.bootstrap import services
    from quota.logs import configure
    from quota.settings import load_settings

    settings = load_settings(database=database, **given)
    if logs and settings.log_format == "json":
        configure(settings.log_format, settings.log_level)
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


def caught_up(services: Services, experiment_ids: Sequence[str] | None = None, *, as_json: bool) -> None:
    """Bring the views up to date, of those experiments or of all; say of which ones that is not possible, and why."""
    untrusted = services.queries.catch_up_as_far_as_possible(experiment_ids)
    tell_of(untrusted, "is not up to date", as_json=as_json)


def tell_of(experiments: Mapping[str, str], what: str, *, as_json: bool) -> None:
    """Say on stderr what is wrong with experiments, and why."""
    for experiment_id, reason in experiments.items():
        told = {"experiment_id": experiment_id, "problem": what, "reason": reason}
        text = json.dumps(told) if as_json else f"experiment {experiment_id} {what}: {reason}"
        typer.echo(text, err=True)


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
        keep_completed=settings.keep_completed,
        min_age_seconds=settings.min_age.total_seconds(),
        finished_retention_seconds=settings.finished_retention.total_seconds(),
    )
    refusal = parameters.refusal()
    if refusal is not None:
        raise SettingsRefused("policy", refusal.field, refusal.value, refusal.reason)
    return parameters


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
        TextColumn("{task.description}", markup=False),
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
    """Print a value as JSON; a number that is none by its name, as in the wire form."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    typer.echo(json.dumps(_without_non_finite(value), default=_plain, ensure_ascii=not is_utf8))


def _without_non_finite(value: object) -> object:
    from quota.domain.wire import finite_or_named

    match value:
        case float():
            return finite_or_named(value)
        case dict():
            return {key: _without_non_finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_without_non_finite(each) for each in value]
        case _:
            return value


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)

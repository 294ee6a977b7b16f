"""`ckpt-quota sweep`: evict until the limits hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.exit_codes import EXCEEDED, FAILED
from quota.cli.plan import reasons, show
from quota.cli.plan_files import read_plan
from quota.cli.session import (
    DatabaseOption,
    ExperimentOption,
    JsonOption,
    LogFormatOption,
    MostEvictedBytesOption,
    MostEvictionsOption,
    MovesBar,
    PolicyOption,
    RetentionOption,
    SeedOption,
    chosen,
    opened,
    policy_parameters,
    print_json,
    progress,
)
from quota.cli.tables import counted, duration_text, size_text

if TYPE_CHECKING:
    from datetime import timedelta

    from quota.bootstrap import Services
    from quota.domain.events import PolicyParameters
    from quota.errors import LeaseHeld
    from quota.services.planning import Planned
    from quota.services.saved_plans import ReadPlan
    from quota.services.sweep_order import Progress, SweepReport
    from quota.settings import Settings

_SHOWN = 5


def sweep(
    experiment_ids: ExperimentOption = None,
    policy: PolicyOption = None,
    seed: SeedOption = None,
    trash_retention: RetentionOption = None,
    most_evictions: MostEvictionsOption = None,
    most_evicted_bytes: MostEvictedBytesOption = None,
    retry_forbidden: Annotated[
        bool, typer.Option("--retry-forbidden", help="Try again to delete what a store had to keep (object lock).")
    ] = False,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="FILE", help="Apply what `plan --save FILE` has saved, and nothing else."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan, like `ckpt-quota plan`.")] = False,
    log_format: LogFormatOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evict checkpoints until every limit holds. Fit for cron: says nothing where there was nothing to do."""
    from quota.errors import LeaseHeld
    from quota.logs import are_json
    from quota.telling import tell_of_sweep

    elsewhere = {"-e": experiment_ids, "--policy": policy, "--seed": seed, "--retry-forbidden": retry_forbidden}
    read = None if plan is None else _read_alone(plan, elsewhere)
    given = {
        "policy": policy,
        "trash_retention": trash_retention,
        "most_evictions": most_evictions,
        "most_evicted_bytes": most_evicted_bytes,
        "log_format": log_format,
    }
    with opened(database, logs=True, **given) as (services, settings):
        parameters = policy_parameters(settings, seed)
        if read is None:
            work = _choosing(services, settings, chosen(services, experiment_ids), parameters, again=retry_forbidden)
        else:
            work = _applying(services, settings, read, parameters)
        if dry_run:
            show(work.planned(), as_json=as_json)
            return
        try:
            with progress(quiet=as_json or are_json()) as bar:
                report = work.swept(MovesBar(bar, "evicting"))
        except LeaseHeld as held:
            _answer_skipped(held, is_fault=work.is_waited_for, as_json=as_json)
            return
        if are_json():
            tell_of_sweep("sweep", report, services.queries)
    if as_json:
        print_json(_for_machines(report))
    elif not are_json():
        _answer(report, settings.trash_retention, "the next one goes on" if read is None else "save a plan of the rest")
    _end_by(report)


def _end_by(report: SweepReport) -> None:
    """End with an exit code of its own where not all is well."""
    if report.has_failed:
        raise typer.Exit(FAILED)
    if report.excesses:
        raise typer.Exit(EXCEEDED)


@dataclass(frozen=True)
class _Work:
    """What there is to do.

    Attributes:
        planned: Says what it is.
        swept: Does it.
        is_waited_for: Whether it is a fault that another process sweeps.
    """

    planned: Callable[[], Planned]
    swept: Callable[[Progress], SweepReport]
    is_waited_for: bool = False


def _choosing(
    services: Services, settings: Settings, experiment_ids: list[str], parameters: PolicyParameters, *, again: bool
) -> _Work:
    from quota.bootstrap import sweep_order

    order = replace(sweep_order(settings, parameters), retry_forbidden=again)
    return _Work(
        partial(services.planner.plan, experiment_ids, parameters),
        partial(services.sweeper.sweep, experiment_ids, order),
    )


def _applying(services: Services, settings: Settings, read: ReadPlan, configured: PolicyParameters) -> _Work:
    from quota.bootstrap import sweep_order

    confirmed = partial(services.plan_keeper.confirmed, read, configured)
    order = replace(sweep_order(settings, read.plan.parameters), approval=read.approval)
    return _Work(
        confirmed, partial(services.sweeper.apply, confirmed, read.plan.experiment_ids, order), is_waited_for=True
    )


def _read_alone(file: str, given: Mapping[str, object]) -> ReadPlan:
    """Read a saved plan, and check that nothing is asked for that the plan says.

    Raises:
        BadParameter: something is.
        SettingsRefused: the file cannot be read, or holds no plan.
    """
    for name, value in given.items():
        if value is not None and value is not False and value != []:
            message = f"the saved plan says what is swept, and how; leave out {name}, or save another plan"
            raise typer.BadParameter(message, param_hint="'--plan'")
    return read_plan(file)


def _answer_skipped(held: LeaseHeld, *, is_fault: bool, as_json: bool) -> None:
    """Say that another process sweeps: to whoever looks, where it is no fault that cron should tell of.

    Raises:
        LeaseHeld: it is one.
    """
    from quota.logs import are_json

    if is_fault:
        raise held
    if as_json:
        print_json({"sweep_id": None, "skipped": str(held)})
    elif sys.stderr.isatty() and not are_json():
        typer.echo(f"skipped: {held}", err=True)


def _for_machines(report: SweepReport) -> dict[str, Any]:
    tally = report.tally
    return {
        "sweep_id": report.sweep_id,
        "decided": tally.decided,
        "evicted": tally.evicted,
        "purged": tally.purged,
        "failed": tally.failed,
        "cancelled": tally.cancelled,
        "freed_bytes": tally.freed_bytes,
        "missing": tally.missing,
        "errors": tally.errors,
        "capped": report.is_capped,
        "left_alone": report.left_alone,
        "not_taken": report.not_taken,
        "left_open": report.left_open,
        "exceeded": report.exceeded,
        "exceeded_scopes": report.exceeded_scopes,
        "held_back": report.held_back,
        "untrusted": report.untrusted,
    }


def _answer(report: SweepReport, retention: timedelta, rest: str) -> None:
    tally = report.tally
    if report.sweep_id is not None:
        kept = f" into the trash, which keeps them for up to {duration_text(retention)}" if retention else ""
        typer.echo(
            f"{tally.evicted} evicted{kept}; {tally.purged} purged, {size_text(tally.freed_bytes)} freed; "
            f"{tally.failed} failed, {tally.cancelled} cancelled"
        )
    if report.is_capped:
        typer.echo(f"that is as much as one sweep evicts (most_evictions, most_evicted_bytes); {rest}", err=True)
    missing = [f"there is nothing at {uri}, where a trial has saved a checkpoint" for uri in tally.missing]
    _tell_first("missing", missing, "do trials and sweeps see one disk?")
    for error in tally.errors:
        typer.echo(f"failed: {error}", err=True)
    _tell_first("left alone", report.left_alone, "see clock_tolerance in the README")
    _tell_first("not taken", report.not_taken, "--json names them all")
    if report.left_open:
        begun = counted(report.left_open, "eviction")
        typer.echo(f"left open: {begun} that earlier sweeps did not end; this does: ckpt-quota sweep", err=True)
    for reason in report.untrusted.values():
        typer.echo(f"not swept: {reason}", err=True)
    for _, called, held_back in report.excesses:
        typer.echo(f"{called} is still above its limit: {reasons(held_back)}", err=True)


def _tell_first(label: str, found: Sequence[str], of_others: str) -> None:
    """Say the first few of what was found, and how many more there are."""
    for one in found[:_SHOWN]:
        typer.echo(f"{label}: {one}", err=True)
    if len(found) > _SHOWN:
        typer.echo(f"{label}: {len(found) - _SHOWN} more; {of_others}", err=True)

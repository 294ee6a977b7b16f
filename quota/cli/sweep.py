"""`ckpt-quota sweep`: evict until the limits hold."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.exit_codes import EXCEEDED, FAILED
from quota.cli.plan import reasons, show
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
from quota.cli.tables import duration_text, size_text

if TYPE_CHECKING:
    from datetime import timedelta

    from quota.errors import LeaseHeld
    from quota.services.sweep_order import SweepReport

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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan, like `ckpt-quota plan`.")] = False,
    log_format: LogFormatOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evict checkpoints until every limit holds. Fit for cron: says nothing where there was nothing to do."""
    from quota.bootstrap import sweep_order
    from quota.errors import LeaseHeld
    from quota.logs import are_json
    from quota.telling import tell_of_sweep

    given = {
        "policy": policy,
        "trash_retention": trash_retention,
        "most_evictions": most_evictions,
        "most_evicted_bytes": most_evicted_bytes,
        "log_format": log_format,
    }
    with opened(database, logs=True, **given) as (services, settings):
        parameters = policy_parameters(settings, seed)
        experiments = chosen(services, experiment_ids)
        if dry_run:
            show(services.planner.plan(experiments, parameters), as_json=as_json)
            return
        order = replace(sweep_order(settings, parameters), retry_forbidden=retry_forbidden)
        try:
            with progress(quiet=as_json or are_json()) as bar:
                report = services.sweeper.sweep(experiments, order, MovesBar(bar, "evicting"))
        except LeaseHeld as held:
            _answer_skipped(held, as_json=as_json)
            return
        if are_json():
            tell_of_sweep("sweep", report, services.queries)
    if as_json:
        print_json(_for_machines(report))
    elif not are_json():
        _answer(report, settings.trash_retention)
    if report.has_failed:
        raise typer.Exit(FAILED)
    if report.excesses:
        raise typer.Exit(EXCEEDED)


def _answer_skipped(held: LeaseHeld, *, as_json: bool) -> None:
    """Say that another process sweeps: to whoever looks, for it is no fault that cron should tell of."""
    from quota.logs import are_json

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
        "exceeded": report.exceeded,
        "exceeded_scopes": report.exceeded_scopes,
        "held_back": report.held_back,
        "untrusted": report.untrusted,
    }


def _answer(report: SweepReport, retention: timedelta) -> None:
    tally = report.tally
    if report.sweep_id is not None:
        kept = f" into the trash, which keeps them for up to {duration_text(retention)}" if retention else ""
        typer.echo(
            f"{tally.evicted} evicted{kept}; {tally.purged} purged, {size_text(tally.freed_bytes)} freed; "
            f"{tally.failed} failed, {tally.cancelled} cancelled"
        )
    if report.is_capped:
        typer.echo(
            "that is as much as one sweep evicts (most_evictions, most_evicted_bytes); the next one goes on", err=True
        )
    for uri in tally.missing[:_SHOWN]:
        typer.echo(f"missing: there is nothing at {uri}, where a trial has saved a checkpoint", err=True)
    if len(tally.missing) > _SHOWN:
        typer.echo(f"missing: {len(tally.missing) - _SHOWN} more; do trials and sweeps see one disk?", err=True)
    for error in tally.errors:
        typer.echo(f"failed: {error}", err=True)
    for reason in report.left_alone[:_SHOWN]:
        typer.echo(f"left alone: {reason}", err=True)
    if len(report.left_alone) > _SHOWN:
        typer.echo(f"left alone: {len(report.left_alone) - _SHOWN} more; see clock_tolerance in the README", err=True)
    for reason in report.untrusted.values():
        typer.echo(f"not swept: {reason}", err=True)
    for _, called, held_back in report.excesses:
        typer.echo(f"{called} is still above its limit: {reasons(held_back)}", err=True)

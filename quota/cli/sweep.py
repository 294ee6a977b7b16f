"""`ckpt-quota sweep`: evict until the limits hold."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from quota.cli.exit_codes import EXCEEDED, FAILED
from quota.cli.plan import reasons, show
from quota.cli.session import (
    DatabaseOption,
    ExperimentOption,
    JsonOption,
    MovesBar,
    PolicyOption,
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

_MISSING_SHOWN = 5


def sweep(
    experiment_ids: ExperimentOption = None,
    policy: PolicyOption = None,
    seed: SeedOption = None,
    trash_retention: Annotated[
        str | None,
        typer.Option("--trash-retention", metavar="TIME", help="How long evictions can be undone: 90s, 1h, 7d or 0."),
    ] = None,
    most_evictions: Annotated[
        int | None, typer.Option("--most-evictions", metavar="N", help="Leave what is more to the next sweep.")
    ] = None,
    most_evicted_bytes: Annotated[
        str | None, typer.Option("--most-evicted-bytes", metavar="SIZE", help="Likewise: 500GB, 10TB.")
    ] = None,
    retry_forbidden: Annotated[
        bool, typer.Option("--retry-forbidden", help="Try again to delete what a store had to keep (object lock).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan, like `ckpt-quota plan`.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evict checkpoints until every limit holds. Fit for cron: says nothing where there was nothing to do."""
    from quota.bootstrap import sweep_order
    from quota.errors import LeaseHeld

    given = {
        "policy": policy,
        "trash_retention": trash_retention,
        "most_evictions": most_evictions,
        "most_evicted_bytes": most_evicted_bytes,
    }
    with opened(database, **given) as (services, settings):
        parameters = policy_parameters(settings, seed)
        experiments = chosen(services, experiment_ids)
        if dry_run:
            show(services.planner.plan(experiments, parameters), as_json=as_json)
            return
        order = replace(sweep_order(settings, parameters), retry_forbidden=retry_forbidden)
        try:
            with progress(quiet=as_json) as bar:
                report = services.sweeper.sweep(experiments, order, MovesBar(bar, "evicting"))
        except LeaseHeld as held:
            _answer_skipped(held, as_json=as_json)
            return
    _answer(report, settings.trash_retention, as_json=as_json)
    if report.tally.failed or report.untrusted:
        raise typer.Exit(FAILED)
    if report.exceeded:
        raise typer.Exit(EXCEEDED)


def _answer_skipped(held: LeaseHeld, *, as_json: bool) -> None:
    """Say that another process sweeps: to whoever looks, for it is no fault that cron should tell of."""
    if as_json:
        print_json({"sweep_id": None, "skipped": str(held)})
    elif sys.stderr.isatty():
        typer.echo(f"skipped: {held}", err=True)


def _answer(report: SweepReport, retention: timedelta, *, as_json: bool) -> None:
    tally = report.tally
    if as_json:
        print_json(
            {
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
                "exceeded": report.exceeded,
                "held_back": report.held_back,
                "untrusted": report.untrusted,
            }
        )
        return
    if report.sweep_id is not None:
        kept = f" into the trash, which keeps them for {duration_text(retention)}" if retention else ""
        typer.echo(
            f"{tally.evicted} evicted{kept}; {tally.purged} purged, {size_text(tally.freed_bytes)} freed; "
            f"{tally.failed} failed, {tally.cancelled} cancelled"
        )
    if report.is_capped:
        typer.echo(
            "that is as much as one sweep evicts (most_evictions, most_evicted_bytes); the next one goes on", err=True
        )
    for uri in tally.missing[:_MISSING_SHOWN]:
        typer.echo(f"missing: there is nothing at {uri}, where a trial has saved a checkpoint", err=True)
    if len(tally.missing) > _MISSING_SHOWN:
        typer.echo(f"missing: {len(tally.missing) - _MISSING_SHOWN} more; do trials and sweeps see one disk?", err=True)
    for error in tally.errors:
        typer.echo(f"failed: {error}", err=True)
    for reason in report.untrusted.values():
        typer.echo(f"not swept: {reason}", err=True)
    for experiment_id in report.exceeded:
        why = reasons(report.held_back[experiment_id])
        typer.echo(f"experiment {experiment_id} is still above its limit: {why}", err=True)

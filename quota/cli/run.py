"""`ckpt-quota run`: the daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from quota.cli.session import DatabaseOption, PolicyOption, opened, policy_parameters


def run(
    database: DatabaseOption = None,
    policy: PolicyOption = None,
    sweep_schedule: Annotated[
        str | None, typer.Option("--sweep-schedule", metavar="WHEN", help="90s, 15m, 1d, or five crontab fields (UTC).")
    ] = None,
    purge_schedule: Annotated[
        str | None, typer.Option("--purge-schedule", metavar="WHEN", help="When to delete what is due in the trash.")
    ] = None,
    reconcile_schedule: Annotated[
        str | None,
        typer.Option("--reconcile-schedule", metavar="WHEN", help="When to compare the stores with the log."),
    ] = None,
    catch_up_schedule: Annotated[
        str | None, typer.Option("--catch-up-schedule", metavar="WHEN", help="When to bring the views up to date.")
    ] = None,
    trash_retention: Annotated[
        str | None,
        typer.Option("--trash-retention", metavar="TIME", help="How long evictions can be undone: 90s, 1h, 7d or 0."),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", metavar="FORM", help="text, or json for one object a line.")
    ] = None,
) -> None:
    """Sweep, purge, reconcile and catch up at their times, until SIGTERM; then finish the batch in hand.

    Any number may run, on any hosts: one sweeps at a time, and another one takes over when that one is gone.
    """
    from quota.daemon import Daemon
    from quota.logs import configure

    given = {
        "policy": policy,
        "sweep_schedule": sweep_schedule,
        "purge_schedule": purge_schedule,
        "reconcile_schedule": reconcile_schedule,
        "catch_up_schedule": catch_up_schedule,
        "trash_retention": trash_retention,
        "log_format": log_format,
    }
    with opened(database, **given) as (services, settings):
        configure(settings.log_format, settings.log_level)
        Daemon(services, settings, lambda: policy_parameters(settings, None)).run()

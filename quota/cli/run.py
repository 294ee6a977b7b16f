"""`ckpt-quota run`: the daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from quota.cli.session import (
    DatabaseOption,
    LogFormatOption,
    MostEvictedBytesOption,
    MostEvictionsOption,
    PolicyOption,
    RetentionOption,
    opened,
    policy_parameters,
)


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
    trash_retention: RetentionOption = None,
    most_evictions: MostEvictionsOption = None,
    most_evicted_bytes: MostEvictedBytesOption = None,
    lease_term: Annotated[
        str | None,
        typer.Option("--lease-term", metavar="TIME", help="After how long another one takes over."),
    ] = None,
    log_format: LogFormatOption = None,
    log_level: Annotated[
        str | None, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
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
        "most_evictions": most_evictions,
        "most_evicted_bytes": most_evicted_bytes,
        "lease_term": lease_term,
        "log_format": log_format,
        "log_level": log_level,
    }
    with opened(database, logs=True, **given) as (services, settings):
        configure(settings.log_format, settings.log_level)
        Daemon(services, settings, lambda: policy_parameters(settings, None)).run()

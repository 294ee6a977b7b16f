"""`ckpt-quota doctor`: is everything as it should be?"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.session import DatabaseOption, JsonOption, opened, print_json
from quota.cli.tables import duration_text, print_table

if TYPE_CHECKING:
    from datetime import datetime

    from quota.bootstrap import Services
    from quota.eventlog.heartbeats import Heartbeat

_OUTSIDE = "SELECT count(*) AS found FROM checkpoint_inventory WHERE state = 'stored' AND store IS NULL"
_ABOVE_LIMIT = "SELECT count(*) AS found FROM quota_usage WHERE exceeded"


def _sweeps(services: Services, unfinished: int) -> str:
    """Say who sweeps now; a sweep that was killed is finished by the next one, and stays unfinished in the log."""
    from quota.services.fencing import SWEEP_LEASE

    with services.database.read() as connection:
        holding = services.leases.look(connection, SWEEP_LEASE)
    killed = unfinished - (holding is not None)
    now = "none runs now" if holding is None else f"{holding.holder} sweeps since {holding.acquired_at:%H:%M:%S} UTC"
    return f"{now}; {killed} were killed before they ended" if killed > 0 else now


def _described(heartbeat: Heartbeat) -> tuple[str, bool, str]:
    """Say how a daemon is."""
    said = f"{heartbeat.holder}, version {heartbeat.software_version}, last heard of at {_time(heartbeat.beat_at)}"
    if heartbeat.is_silent:
        said += "; it was killed or hangs, so start it again"
    if heartbeat.last_job is not None and heartbeat.last_job_at is not None:
        said += f"; {heartbeat.last_job} at {_time(heartbeat.last_job_at)}: {heartbeat.last_error or 'done'}"
    return f"daemon {heartbeat.daemon_id[:8]}", not heartbeat.is_silent and heartbeat.last_error is None, said


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _findings(services: Services) -> list[tuple[str, bool, str]]:
    """Look at what is stored. That a limit is exceeded is no fault: the next sweep sees to it."""
    outside = services.queries.ask(_OUTSIDE)[0]["found"]
    exceeded = services.queries.ask(_ABOVE_LIMIT)[0]["found"]
    return [
        ("checkpoints in no store", not outside, f"{outside}, which are never evicted" if outside else "none"),
        ("experiments above their limit", True, f"{exceeded}; see: ckpt-quota plan" if exceeded else "none"),
    ]


def doctor(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Check the installation, the database and the stores, and name the versions in use."""
    from quota.bootstrap import open_store, software_version
    from quota.errors import QuotaError
    from quota.services.stores import require_mark

    checks: list[tuple[str, bool, str]] = [
        ("software", True, f"checkpoint-quota {software_version()}, Python {platform.python_version()}")
    ]
    try:
        with opened(database) as (services, settings):
            checks.append(("database", True, f"{services.database.url}: {services.database.server_version()}"))
            checks.append(("schema", True, "at the migrations' head"))
            checks.append(
                (
                    "settings",
                    True,
                    f"policy {settings.policy}, trash kept for {duration_text(settings.trash_retention)}",
                )
            )
            deployment = services.administration.look()
            checks.append(("sweeps", True, _sweeps(services, len(deployment.sweeps))))
            checks += [_described(heartbeat) for heartbeat in services.heartbeats.look()]
            if not deployment.stores:
                checks.append(
                    ("stores", False, "none, so nothing is ever evicted; allow it: ckpt-quota store add ROOT")
                )
            if not deployment.limits:
                limit_advice = "none, so nothing is ever evicted; set one: ckpt-quota limit set --checkpoints N"
                checks.append(("limits", False, limit_advice))
            untrusted = services.queries.catch_up_as_far_as_possible()
            checks += [(f"experiment {experiment_id}", False, reason) for experiment_id, reason in untrusted.items()]
            checks += _findings(services)
            for uri, store in sorted(deployment.stores.items()):
                try:
                    require_mark(open_store(uri), store)
                    checks.append((f"store {uri}", True, "is there"))
                except QuotaError as error:
                    checks.append((f"store {uri}", False, str(error)))
    except QuotaError as error:
        checks.append(("database", False, str(error)))
    if as_json:
        print_json([{"check": name, "ok": ok, "detail": detail} for name, ok, detail in checks])
    else:
        print_table("", ["check", "ok", "detail"], checks, "")
    if not all(ok for _, ok, _ in checks):
        raise typer.Exit(FAILED)

"""`ckpt-quota doctor`: is everything as it should be?"""

from __future__ import annotations

import platform

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, print_table

_FAILED = 1


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
            checks.append(("settings", True, f"policy {settings.policy}, trash kept for {settings.trash_retention}"))
            deployment = services.administration.look()
            unfinished = len(deployment.sweeps)
            checks.append(("sweeps", unfinished == 0, f"{unfinished} begun and not finished: running, or killed"))
            if not deployment.stores:
                checks.append(
                    ("stores", False, "none, so nothing is ever evicted; allow it: ckpt-quota store add ROOT")
                )
            if not deployment.limits:
                limit_advice = "none, so nothing is ever evicted; set one: ckpt-quota limit set --checkpoints N"
                checks.append(("limits", False, limit_advice))
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
        raise typer.Exit(_FAILED)

"""`ckpt-quota doctor`: is everything as it should be?"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from quota.cli.exit_codes import FAILED, USAGE
from quota.cli.session import DatabaseOption, JsonOption, print_json
from quota.cli.tables import counted, duration_text, print_table

if TYPE_CHECKING:
    from datetime import datetime

    from quota.bootstrap import Services
    from quota.domain.deployment import DeploymentState, Store
    from quota.eventlog.heartbeats import Heartbeat
    from quota.settings import Settings

_SETTINGS = "settings"
_OUTSIDE = """
    SELECT uri, count(*) OVER () AS found FROM checkpoint_inventory
    WHERE state = 'stored' AND store IS NULL AND trial_status IN ('running', 'paused')
    ORDER BY uri LIMIT 3
"""


@dataclass(frozen=True, slots=True)
class _Check:
    """Something that was looked at."""

    check: str
    ok: bool
    detail: str


def _good(check: str, detail: str) -> _Check:
    return _Check(check, ok=True, detail=detail)


def _bad(check: str, detail: str) -> _Check:
    return _Check(check, ok=False, detail=detail)


def doctor(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Check the settings, the database, the daemons, the experiments and the stores, and name the versions in use."""
    checks = list(_checks(database))
    if as_json:
        print_json([asdict(one) for one in checks])
    else:
        rows = [(one.check, "ok" if one.ok else "failed", one.detail) for one in checks]
        print_table("", ["check", "result", "detail"], rows, "", prose="detail")
    failed = {one.check for one in checks if not one.ok}
    if failed:
        raise typer.Exit(USAGE if _SETTINGS in failed else FAILED)


def _checks(database: str | None) -> Iterator[_Check]:
    from quota.bootstrap import software_version
    from quota.errors import SettingsRefused

    yield _good("software", f"checkpoint-quota {software_version()}, Python {platform.python_version()}")
    try:
        settings = _settings(database)
    except SettingsRefused as error:
        yield _bad(_SETTINGS, str(error))
        return
    yield _good(_SETTINGS, f"policy {settings.policy}, trash kept for {duration_text(settings.trash_retention)}")
    yield from _opened(settings)


def _settings(database: str | None) -> Settings:
    """Load the settings, and read those too that only a daemon or an open database reads."""
    from quota.eventlog.database_urls import parse_url
    from quota.schedules import triggers
    from quota.settings import load_settings

    settings = load_settings(database=database)
    parse_url(settings.database)
    triggers(settings)
    return settings


def _opened(settings: Settings) -> Iterator[_Check]:
    from quota.bootstrap import services
    from quota.errors import QuotaError, SchemaMismatch

    with ExitStack() as stack:
        try:
            opened = stack.enter_context(services(settings.database, settings.actor))
            version = opened.database.server_version()
        except QuotaError as error:
            yield _bad("schema" if isinstance(error, SchemaMismatch) else "database", str(error))
            return
        yield _good("database", f"{opened.database.url}: {version}")
        yield _good("schema", "at the migrations' head")
        yield from _asked("daemon", lambda: map(_daemon, opened.heartbeats.look()))
        yield from _asked("experiments", lambda: _experiments(opened))
        yield from _asked("deployment", lambda: _deployment(opened, opened.administration.look()))
        yield from _asked("checkpoints", lambda: _outside(opened))


def _asked(check: str, look: Callable[[], Iterable[_Check]]) -> list[_Check]:
    """Look at something; what keeps it from being seen is told under its name, and keeps nothing else from it."""
    from quota.errors import QuotaError

    try:
        return list(look())
    except QuotaError as error:
        return [_bad(check, str(error))]


def _daemon(heartbeat: Heartbeat) -> _Check:
    who = f"pid {heartbeat.pid}" if heartbeat.pid is not None else heartbeat.daemon_id
    said = f"{who} of {heartbeat.holder}, version {heartbeat.software_version}, last heard of {_at(heartbeat.beat_at)}"
    if heartbeat.is_silent:
        said += "; it was killed or hangs, so start it again"
    if heartbeat.last_job is not None and heartbeat.last_job_at is not None:
        said += f"; {heartbeat.last_job} {_at(heartbeat.last_job_at)}: {heartbeat.last_error or 'done'}"
    return _Check("daemon", ok=not heartbeat.is_silent and heartbeat.last_error is None, detail=said)


def _at(moment: datetime) -> str:
    return f"at {moment:%Y-%m-%d %H:%M:%S} UTC"


def _deployment(services: Services, deployment: DeploymentState) -> Iterator[_Check]:
    yield _good("sweeps", _sweeps(services, len(deployment.sweeps)))
    if not deployment.stores:
        yield _bad("stores", "none, so nothing is ever evicted; allow it: ckpt-quota store add ROOT")
    yield _limits(services, deployment)
    for _, store in sorted(deployment.stores.items()):
        yield _store(services, store)


def _sweeps(services: Services, unfinished: int) -> str:
    """Say who sweeps now; a sweep that was killed is finished by the next one, and stays unfinished in the log."""
    from quota.services.fencing import SWEEP_LEASE

    with services.database.read() as connection:
        holding = services.leases.look(connection, SWEEP_LEASE)
    killed = unfinished - (holding is not None)
    now = "none runs now" if holding is None else f"{holding.holder} sweeps since {holding.acquired_at:%H:%M:%S} UTC"
    return f"{now}; {killed} were killed before they ended" if killed > 0 else now


def _store(services: Services, store: Store) -> _Check:
    from quota.bootstrap import open_store
    from quota.errors import QuotaError
    from quota.ports import UsableStore
    from quota.services.lineage import Lineage
    from quota.services.stores import require_mark

    try:
        opened = open_store(store.uri)
        Lineage(services.database, services.log).require(store, require_mark(opened, store))
        if not isinstance(opened, UsableStore):
            return _good("store", f"{store.uri} is there")
        opened.require_usable()
    except QuotaError as error:
        return _bad("store", str(error))
    return _good("store", f"{store.uri} is there, and this user may move what lies in it")


def _experiments(services: Services) -> Iterator[_Check]:
    untrusted = services.queries.catch_up_as_far_as_possible()
    for experiment_id, reason in untrusted.items():
        yield _bad("experiment", f"{experiment_id} is not up to date: {reason}")
    if not untrusted:
        known = counted(len(services.queries.experiment_ids()), "experiment")
        yield _good("experiments", f"{known}, and the views show all that was recorded")


def _limits(services: Services, deployment: DeploymentState) -> _Check:
    """Look at the limits. That one is exceeded is no fault: the next sweep sees to it."""
    if not deployment.limits:
        return _bad("limits", "none, so nothing is ever evicted; set one: ckpt-quota limit set --checkpoints N")
    uses = services.limit_uses.limits()
    unknown = [f"{use.limit.scope}: {use.problem}" for use in uses if use.problem is not None]
    if unknown:
        return _bad("limits", f"nobody can tell what is free: {'; '.join(unknown)}")
    above = [use.limit.scope for use in uses if use.is_exceeded]
    if not above:
        return _good("limits", f"{counted(len(uses), 'limit')}, and none is exceeded")
    return _good("limits", f"exceeded: {', '.join(above)}; see: ckpt-quota limit list, ckpt-quota plan")


def _outside(services: Services) -> Iterator[_Check]:
    """Look for checkpoints that count, and that no sweep may take."""
    outside = services.queries.ask(_OUTSIDE)
    if not outside:
        yield _good("checkpoints", "all that count lie in a store")
        return
    found = outside[0]["found"]
    named = ", ".join(str(row["uri"]) for row in outside) + (" …" if found > len(outside) else "")
    yield _bad(
        "checkpoints",
        f"{found} in no store, so never evicted: {named}; allow it (ckpt-quota store add ROOT), record what is gone "
        "(the event checkpoint_missing), or end the experiment (ckpt-quota experiment finish EXPERIMENT)",
    )

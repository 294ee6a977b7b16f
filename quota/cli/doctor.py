"""`ckpt-quota doctor`: is everything as it should be?"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import typer

from quota.cli.exit_codes import FAILED, USAGE
from quota.cli.session import DatabaseOption, JsonOption, print_json
from quota.cli.tables import counted, duration_text, print_table
from quota.domain.identifiers import ORPHANS_STREAM

if TYPE_CHECKING:
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
_REFUSED = """
    SELECT failed_at FROM checkpoints WHERE state = 'stored' AND failures > 0
    UNION ALL
    SELECT failed_at FROM decisions WHERE outcome IN ('claimed', 'trashed', 'purging') AND failures > 0
"""
_LAST_SWEEP = "SELECT max(started_at) AS started_at FROM sweep_history"
_LATELY = timedelta(days=2)
"""What a store refused is tried again once a day at least; if that has not happened since, nobody wants it any more."""
_LONG_AGO = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Check:
    """Something that was looked at. A warning is no fault, and could be better."""

    check: str
    ok: bool
    detail: str
    warns: bool = False


def _good(check: str, detail: str) -> _Check:
    return _Check(check, ok=True, detail=detail)


def _bad(check: str, detail: str) -> _Check:
    return _Check(check, ok=False, detail=detail)


def _result(one: _Check) -> str:
    if not one.ok:
        return "failed"
    return "warning" if one.warns else "ok"


def doctor(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Check the settings, the database, the daemons, the experiments and the stores, and name the versions in use."""
    checks = list(_checks(database))
    if as_json:
        print_json([asdict(one) for one in checks])
    else:
        rows = [(one.check, _result(one), one.detail) for one in checks]
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
        yield from _asked("role", lambda: _role(opened))
        yield from _asked("daemon", lambda: map(_daemon, opened.heartbeats.look()))
        yield from _asked("experiments", lambda: _experiments(opened))
        yield from _asked("deployment", lambda: _deployment(opened, opened.administration.look()))
        yield from _asked("refusals", lambda: _refusals(opened))
        yield from _asked("checkpoints", lambda: _outside(opened))


def _asked(check: str, look: Callable[[], Iterable[_Check]]) -> list[_Check]:
    """Look at something; what keeps it from being seen is told under its name, and keeps nothing else from it."""
    from quota.errors import QuotaError

    try:
        return list(look())
    except QuotaError as error:
        return [_bad(check, str(error))]


def _role(services: Services) -> Iterator[_Check]:
    """Tell as whom this process works; SQLite knows no users."""
    from quota.eventlog.rights import rights_of

    with services.database.read() as connection:
        rights = rights_of(connection)
    if rights is None:
        return
    advice = "whoever has its password can change the log; make roles: ckpt-quota db roles (see docs/roles.md)"
    if rights.is_superuser:
        yield _Check("role", ok=True, detail=f"{rights.name} is a superuser: {advice}", warns=True)
    elif rights.owns_events:
        yield _Check("role", ok=True, detail=f"{rights.name} owns the events: {advice}", warns=True)
    elif rights.writes_projections:
        yield _good("role", f"{rights.name} has the rights of an operator")
    elif rights.appends:
        yield _good("role", f"{rights.name} has the rights of a recorder")
    else:
        yield _good("role", f"{rights.name} may only read")


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
    return f"{now}; {counted(killed, 'earlier one')} killed before the end" if killed > 0 else now


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
    from quota.eventlog.rights import who_may_not_project

    untrusted = services.queries.catch_up_as_far_as_possible()
    with services.database.read() as connection:
        reader = who_may_not_project(connection)
    if untrusted and reader is not None:
        # Whether that is a fault is seen by whoever may mend it.
        behind = counted(len(untrusted), "experiment")
        yield _Check("experiments", ok=True, detail=f"{behind}: {next(iter(untrusted.values()))}", warns=True)
        return
    for experiment_id, reason in untrusted.items():
        yield _bad("experiment", f"{experiment_id} is not up to date: {reason}")
    if not untrusted:
        known = counted(len(set(services.queries.experiment_ids()) - {ORPHANS_STREAM}), "experiment")
        yield _good("experiments", f"{known}, and the views show all that was recorded")


def _limits(services: Services, deployment: DeploymentState) -> _Check:
    """Look at the limits. That one is exceeded is no fault as long as somebody sweeps: the next sweep sees to it."""
    if not deployment.limits:
        return _bad("limits", "none, so nothing is ever evicted; set one: ckpt-quota limit set --checkpoints N")
    uses = services.limit_uses.limits()
    unknown = [f"{use.limit.scope}: {use.problem}" for use in uses if use.problem is not None]
    if unknown:
        return _bad("limits", f"nobody can tell what is free: {'; '.join(unknown)}")
    above = [use.limit.scope for use in uses if use.is_exceeded]
    if not above:
        return _good("limits", f"{counted(len(uses), 'limit')}, and none is exceeded")
    said = f"exceeded: {', '.join(above)}"
    set_at = min(use.limit.set_at for use in uses if use.is_exceeded)
    swept_at = services.queries.ask(_LAST_SWEEP)[0]["started_at"]
    if max(set_at, swept_at or set_at) + _LONG_AGO < datetime.now(UTC) and not services.heartbeats.look():
        since = "ever" if swept_at is None else f"since {swept_at:%Y-%m-%d %H:%M:%S} UTC"
        advice = "does cron run ckpt-quota sweep? What keeps checkpoints from going is shown by: ckpt-quota plan"
        return _bad("limits", f"{said}, no daemon runs, and no sweep has evicted anything {since}; {advice}")
    return _good("limits", f"{said}; see: ckpt-quota limit list, ckpt-quota plan")


def _refusals(services: Services) -> Iterator[_Check]:
    """Look for what stores have refused lately, and will be asked for again."""
    times = [row["failed_at"] for row in services.queries.ask(_REFUSED)]
    found = sum(time is not None and time + _LATELY > datetime.now(UTC) for time in times)
    if found:
        advice = "see: ckpt-quota evictions --outcome failed, and the last sweep's answer"
        yield _bad("refusals", f"stores refuse to move or to delete {counted(found, 'checkpoint')}; {advice}")


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

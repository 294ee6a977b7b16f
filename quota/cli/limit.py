"""`ckpt-quota limit`: how much may be stored, and how much has to stay free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.scopes import (
    OneExperimentOption,
    ScopeOption,
    amount,
    amount_text,
    answer,
    count,
    note_unknown,
    scope_text,
    shares_text,
)
from quota.cli.session import DatabaseOption, JsonOption, caught_up, opened, print_json
from quota.cli.tables import print_table, size_text

if TYPE_CHECKING:
    from quota.domain.events import LimitMeasure, LimitSet
    from quota.services.limit_use import LimitUse

app = typer.Typer(help="Set, list and remove limits.", no_args_is_help=True)

_EACH = "experiments"
_WHICH = "'--checkpoints' / '--bytes' / '--free'"


@app.command("set")
def set_limit(
    checkpoints: Annotated[
        int | None, typer.Option("--checkpoints", min=1, metavar="N", help="A sweep starts above this many.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--bytes", metavar="SIZE", help="A sweep starts above this: 200GB, 1.5TiB.")
    ] = None,
    free: Annotated[
        str | None,
        typer.Option("--free", metavar="SHARE", help="So much of a store's disk has to stay free: 30% or 50GB."),
    ] = None,
    low: Annotated[
        str | None,
        typer.Option(
            "--low",
            "--until",
            metavar="AMOUNT",
            help="Where a sweep stops, written like the limit: at most the limit; with --free, at least.",
        ),
    ] = None,
    scope: ScopeOption = None,
    experiment_id: OneExperimentOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Limit what experiments store, each one by itself by default. A sweep evicts until the limit holds.

    Of checkpoints those of trials that may still run count, and a running trial counts as one, written or not. Bytes
    are those of all checkpoints, in the trash too.
    """
    named = scope_text(scope, experiment_id)
    if free is not None and named is None:
        message = "it is about a store's disk, so say whose: --scope store:ROOT"
        raise typer.BadParameter(message, param_hint="'--free'")
    wanted = _limit(named or _EACH, checkpoints, size, free, low)
    with opened(database) as (services, _):
        limit = services.administration.set_limit(wanted)
        caught_up(services, as_json=as_json)
        note = note_unknown(services, limit.scope, "the limit holds")
    told = {"scope": limit.scope, "measure": limit.measure, "high": limit.high, "low": limit.low}
    high, until = amount_text(limit.measure, limit.high), amount_text(limit.measure, limit.low)
    if limit.is_of_free_space:
        text = f"{limit.scope}: with less than {high} free, a sweep evicts until {until} are"
    else:
        text = f"{limit.scope}: above {high}, a sweep evicts down to {_bare(limit.measure, limit.low)}"
    answer(told, text, note, as_json=as_json)


@app.command("list")
def list_limits(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List the limits, innermost first, with what is used and by whom."""
    with opened(database) as (services, _):
        caught_up(services, as_json=as_json)
        uses = services.limit_uses.limits()
    if as_json:
        print_json([_described(use) for use in uses])
        return
    print_table(
        "Limits",
        ["scope", "counts", "used", "limit", "until", "exceeded", "most of it", "set", "by"],
        [_row(use) for use in uses],
        "no limits yet; set one with: ckpt-quota limit set --checkpoints 10",
        optional=["by", "set", "until", "most of it"],
    )
    for use in uses:
        if use.problem is not None:
            typer.echo(f"{use.limit.scope}: nobody can tell what is free: {use.problem}", err=True)


@app.command("remove")
def remove_limit(
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="The one on checkpoints.")] = False,
    size: Annotated[bool, typer.Option("--bytes", help="The one on bytes.")] = False,
    free: Annotated[bool, typer.Option("--free", help="The one on free space.")] = False,
    scope: ScopeOption = None,
    experiment_id: OneExperimentOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a limit: the scope's only one, or the one that is named."""
    named = scope_text(scope, experiment_id) or _EACH
    flags: dict[LimitMeasure, bool] = {
        "checkpoints": checkpoints,
        "bytes": size,
        "free_bytes": free,
        "free_percent": free,
    }
    asked: list[LimitMeasure] = [measure for measure, is_asked in flags.items() if is_asked]
    none: list[LimitMeasure] = asked[:1] or ["checkpoints"]
    with opened(database) as (services, _):
        limits = services.administration.look().limits.values()
        there: list[LimitMeasure] = [one.measure for one in limits if one.scope == named]
        going: list[LimitMeasure] = [measure for measure in there if not asked or measure in asked]
        if not asked and len(going) > 1:
            message = f"{named} has limits on {', '.join(going)}; say which one goes"
            raise typer.BadParameter(message, param_hint=_WHICH)
        for measure in going or none:
            services.administration.remove_limit(named, measure)
    text = f"{named}: no limit any more" if len(going) == len(there) else f"{named}: no limit on {going[0]} any more"
    answer({"scope": named, "measures": going}, text, None, as_json=as_json)


def _limit(scope: str, checkpoints: int | None, size: str | None, free: str | None, low: str | None) -> LimitSet:
    """Read the limit as it was written.

    Raises:
        SettingsRefused: an amount is none.
    """
    from quota.domain.events import LimitSet
    from quota.domain.quantities import parse_percent, parse_size

    thing = f"limit of {scope}"
    given = [one for one in (checkpoints, size, free) if one is not None]
    if len(given) != 1:
        message = "say what is limited, by one of --checkpoints N, --bytes SIZE and --free SHARE"
        raise typer.BadParameter(message, param_hint=_WHICH)
    measure: LimitMeasure
    if checkpoints is not None:
        measure, high, parse = "checkpoints", checkpoints, count
    elif size is not None:
        measure, high, parse = "bytes", amount(thing, "bytes", size, parse_size), parse_size
    else:
        text = free or ""
        is_share = text.rstrip().endswith("%")
        measure, parse = ("free_percent", parse_percent) if is_share else ("free_bytes", parse_size)
        high = amount(thing, "free", text, parse if is_share else _size_or_share)
    return LimitSet(
        scope=scope, measure=measure, high=high, low=high if low is None else amount(thing, "low", low, parse)
    )


def _size_or_share(text: str) -> int:
    from quota.domain.quantities import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        message = "write whole per cents or a size: 30% or 50GB"
        raise ValueError(message) from error


def _row(use: LimitUse) -> list[object]:
    limit, space = use.limit, use.space
    if not limit.is_of_free_space:
        used: str | None = _bare(limit.measure, use.used)
    elif space is None:
        used = None
    elif limit.measure == "free_percent":
        used = f"{100 * space.free_bytes / max(1, space.total_bytes):.3g}% free"
    else:
        used = f"{size_text(space.free_bytes)} free"
    return [
        limit.scope,
        limit.measure.partition("_")[0],
        used,
        _bare(limit.measure, limit.high),
        _bare(limit.measure, limit.low),
        use.is_exceeded,
        shares_text(limit.measure, use.shares),
        limit.set_at,
        limit.actor,
    ]


def _bare(measure: str, value: int) -> str:
    return str(value) if measure == "checkpoints" else amount_text(measure, value)


def _described(use: LimitUse) -> dict[str, Any]:
    limit = use.limit
    return {
        "scope": limit.scope,
        "measure": limit.measure,
        "high": limit.high,
        "low": limit.low,
        "set_at": limit.set_at,
        "actor": limit.actor,
        "used": use.used,
        "exceeded": use.is_exceeded,
        "free_bytes": None if use.space is None else use.space.free_bytes,
        "total_bytes": None if use.space is None else use.space.total_bytes,
        "problem": use.problem,
        "by": [{"experiment_id": one, "used": share} for one, share in use.shares.items()],
    }

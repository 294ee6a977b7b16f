"""`ckpt-quota reserve`: what a team or an experiment always keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from quota.cli.scopes import (
    OneExperimentOption,
    ScopeOption,
    amount,
    amount_text,
    answer,
    note_unknown,
    required_scope,
)
from quota.cli.session import DatabaseOption, JsonOption, caught_up, opened, print_json
from quota.cli.tables import print_table

if TYPE_CHECKING:
    from quota.domain.events import ReserveMeasure, ReserveSet

app = typer.Typer(help="Set, list and remove what teams and experiments always keep.", no_args_is_help=True)

_WHICH = "'--checkpoints' / '--bytes'"


@app.command("set")
def set_reserve(
    checkpoints: Annotated[
        int | None, typer.Option("--checkpoints", min=1, metavar="N", help="So many checkpoints stay.")
    ] = None,
    size: Annotated[str | None, typer.Option("--bytes", metavar="SIZE", help="So much stays: 50GB, 1.5TiB.")] = None,
    scope: ScopeOption = None,
    experiment_id: OneExperimentOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a label's experiments, or one, keep a minimum, whatever limits that experiments share ask for."""
    wanted = _reserve(required_scope(scope, experiment_id), checkpoints, size)
    with opened(database) as (services, _):
        reserve = services.administration.set_reserve(wanted)
        caught_up(services, as_json=as_json)
        note = note_unknown(services, reserve.scope, "the reserve holds")
    told = {"scope": reserve.scope, "measure": reserve.measure, "amount": reserve.amount}
    kept = amount_text(reserve.measure, reserve.amount)
    text = f"{reserve.scope}: keeps {kept}, whatever limits that experiments share ask for"
    answer(told, text, note, as_json=as_json)


@app.command("list")
def list_reserves(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List the reserves, with what is stored of them."""
    with opened(database) as (services, _):
        caught_up(services, as_json=as_json)
        uses = services.limit_uses.reserves()
    if as_json:
        print_json(
            [
                {
                    "scope": use.reserve.scope,
                    "measure": use.reserve.measure,
                    "amount": use.reserve.amount,
                    "stored": use.stored,
                    "set_at": use.reserve.set_at,
                    "actor": use.reserve.actor,
                }
                for use in uses
            ]
        )
        return
    print_table(
        "Reserves",
        ["scope", "stays", "stored", "set", "by"],
        [
            [
                use.reserve.scope,
                amount_text(use.reserve.measure, use.reserve.amount),
                amount_text(use.reserve.measure, use.stored),
                use.reserve.set_at,
                use.reserve.actor,
            ]
            for use in uses
        ],
        "no reserves; set one with: ckpt-quota reserve set --scope label:KEY=VALUE --checkpoints 5",
        optional=["by", "set"],
    )


@app.command("remove")
def remove_reserve(
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="The one on checkpoints.")] = False,
    size: Annotated[bool, typer.Option("--bytes", help="The one on bytes.")] = False,
    scope: ScopeOption = None,
    experiment_id: OneExperimentOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a reserve: the scope's only one, or the one that is named."""
    named = required_scope(scope, experiment_id)
    flags: dict[ReserveMeasure, bool] = {"checkpoints": checkpoints, "bytes": size}
    asked: list[ReserveMeasure] = [measure for measure, is_asked in flags.items() if is_asked]
    none: list[ReserveMeasure] = ["checkpoints"]
    with opened(database) as (services, _):
        reserves = services.administration.look().reserves.values()
        there: list[ReserveMeasure] = [one.measure for one in reserves if one.scope == named]
        going = asked or there or none
        if len(going) > 1 and not asked:
            message = f"{named} has reserves of {' and '.join(sorted(going))}; say which one goes"
            raise typer.BadParameter(message, param_hint=_WHICH)
        for measure in going:
            services.administration.remove_reserve(named, measure)
    text = f"{named}: no reserve of {' or '.join(going)} any more"
    answer({"scope": named, "measures": going}, text, None, as_json=as_json)


def _reserve(scope: str, checkpoints: int | None, size: str | None) -> ReserveSet:
    """Read the reserve as it was written.

    Raises:
        SettingsRefused: the amount is none.
    """
    from quota.domain.events import ReserveSet
    from quota.domain.quantities import parse_size

    if checkpoints is not None and size is None:
        return ReserveSet(scope=scope, measure="checkpoints", amount=checkpoints)
    if checkpoints is not None or size is None:
        message = "say what stays, by one of --checkpoints N and --bytes SIZE"
        raise typer.BadParameter(message, param_hint=_WHICH)
    return ReserveSet(scope=scope, measure="bytes", amount=amount(f"reserve of {scope}", "bytes", size, parse_size))

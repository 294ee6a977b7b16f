"""`ckpt-quota limit`: how much may be stored."""

from __future__ import annotations

from typing import Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json
from quota.cli.tables import counted, picked, print_table

app = typer.Typer(help="Set, list and remove limits.", no_args_is_help=True)

ScopeOption = Annotated[
    str | None,
    typer.Option("--experiment", "-e", metavar="ID", help="For this one; for each without its own by default."),
]


def _scope(experiment_id: str | None) -> str:
    from quota.domain.events.deployment import ALL_EXPERIMENTS_SCOPE, EXPERIMENT_SCOPE

    return ALL_EXPERIMENTS_SCOPE if experiment_id is None else f"{EXPERIMENT_SCOPE}{experiment_id}"


@app.command("set")
def set_limit(
    checkpoints: Annotated[
        int, typer.Option("--checkpoints", min=1, metavar="N", help="A sweep starts above this many.")
    ],
    low: Annotated[
        int | None, typer.Option("--low", min=1, metavar="N", help="A sweep stops at this many; N by default.")
    ] = None,
    experiment_id: ScopeOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Limit the number of checkpoints of an experiment. A running trial counts as one, written or not."""
    from quota.domain.events import LimitSet

    with opened(database) as (services, _):
        limit = services.administration.set_limit(
            LimitSet(
                scope=_scope(experiment_id),
                measure="checkpoints",
                high=checkpoints,
                low=checkpoints if low is None else low,
            )
        )
        is_unknown = experiment_id is not None and experiment_id not in services.queries.experiment_ids()
    if as_json:
        print_json({"scope": limit.scope, "measure": limit.measure, "high": limit.high, "low": limit.low})
    else:
        typer.echo(f"{limit.scope}: above {counted(limit.high, 'checkpoint')}, a sweep evicts down to {limit.low}")
    if is_unknown:
        typer.echo(f"no experiment {experiment_id} is registered yet; the limit holds once it is", err=True)


@app.command("list")
def list_limits(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List the limits."""
    with opened(database) as (services, _):
        limits = services.administration.look().limits
    rows = [
        {
            "scope": limit.scope,
            "measure": limit.measure,
            "high": limit.high,
            "low": limit.low,
            "set_at": limit.set_at,
            "actor": limit.actor,
        }
        for limit in sorted(limits.values(), key=lambda one: one.scope)
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            "Limits",
            ["scope", "measure", "high", "low", "set", "by"],
            picked(rows, ["scope", "measure", "high", "low", "set_at", "actor"]),
            "no limits yet; set one with: ckpt-quota limit set --checkpoints 10",
            optional=["measure", "by", "set"],
        )


@app.command("remove")
def remove_limit(
    experiment_id: ScopeOption = None, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Remove a limit."""
    with opened(database) as (services, _):
        services.administration.remove_limit(_scope(experiment_id))
    if as_json:
        print_json({"scope": _scope(experiment_id)})
    else:
        typer.echo(f"{_scope(experiment_id)}: no limit any more")

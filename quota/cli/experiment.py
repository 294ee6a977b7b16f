"""`ckpt-quota experiment`: list, show, finish."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from quota.cli.session import DatabaseOption, JsonOption, caught_up, chosen, opened, print_json, tell_of
from quota.cli.tables import picked, print_table, size_text

app = typer.Typer(help="See what experiments hold.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Its id.")]


@app.command("list")
def list_experiments(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List all experiments with what they hold, and their limits."""
    from quota.domain.identifiers import ORPHANS_STREAM
    from quota.services.querying import USAGE

    with opened(database) as (services, _):
        caught_up(services, as_json=as_json)
        rows = services.queries.ask(USAGE)
    if as_json:
        print_json(rows)
        return
    orphaned = sum(row["trashed_bytes"] for row in rows if row["experiment_id"] == ORPHANS_STREAM)
    print_table(
        "Experiments",
        ["experiment", "running", "checkpoints", "limit", "exceeded", "stored", "in trash", "freed"],
        [
            [
                row["experiment_id"],
                row["running_trials"],
                row["held_checkpoints"],
                row["limit_high"],
                bool(row["exceeded"]),
                size_text(row["stored_bytes"]),
                size_text(row["trashed_bytes"]),
                size_text(row["freed_bytes"]),
            ]
            for row in rows
            if row["experiment_id"] != ORPHANS_STREAM
        ],
        "no experiments yet; record one with quota.connect() or `ckpt-quota ingest`",
        optional=["freed", "running", "in trash", "stored"],
    )
    if orphaned:
        typer.echo(f"{size_text(orphaned)} of orphans in the trash; see: ckpt-quota evictions -e {ORPHANS_STREAM}")


@app.command()
def show(experiment_id: IdArgument, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Show one experiment: its rungs, its estimators, its checkpoints."""
    from quota.services.querying import ESTIMATORS, INVENTORY, RUNGS

    with opened(database) as (services, _):
        behind = services.queries.catch_up(chosen(services, [experiment_id]))
        tell_of(behind, "is not up to date", as_json=as_json)
        found: dict[str, Any] = {
            "experiment": services.queries.experiment(experiment_id),
            "rungs": services.queries.ask(RUNGS, experiment_id=experiment_id),
            "estimators": services.queries.ask(ESTIMATORS, experiment_id=experiment_id),
            "checkpoints": services.queries.ask(INVENTORY, experiment_id=experiment_id),
        }
    if as_json:
        print_json(found)
        return
    print_table(
        f"Experiment {experiment_id}",
        ["", " "],
        [[name.replace("_", " "), value] for name, value in found["experiment"].items() if name != "experiment_id"],
        "",
    )
    print_table(
        "Rungs",
        ["level", "promotion quantile", "entries"],
        picked(found["rungs"], ["level", "promotion_quantile", "length"]),
        "no rungs",
    )
    print_table(
        "Estimators: how often a new report was better than a paused trial",
        ["estimator", "level", "better", "of", "posterior mean"],
        picked(found["estimators"], ["estimator", "level", "ones", "total", "posterior_mean"]),
        "no estimators",
    )
    held = [row for row in found["checkpoints"] if row["state"] in {"stored", "claimed", "trashed"}]
    print_table(
        "Checkpoints",
        ["trial", "status", "state", "size", "resource", "pinned", "store", "uri"],
        [
            [
                row["trial_id"],
                row["trial_status"],
                row["state"],
                size_text(row["size_bytes"]),
                row["resource"],
                bool(row["pinned"]),
                row["store"] or "none",
                row["uri"],
            ]
            for row in held
        ],
        "no checkpoints",
        places="uri",
        optional=["store", "resource", "pinned", "status"],
    )
    outside = sum(row["store"] is None for row in held)
    if outside:
        typer.echo(f"{outside} in no store, so never evicted; allow it with: ckpt-quota store add ROOT")


@app.command()
def finish(experiment_id: IdArgument, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Record that an experiment has ended, so that none of its trials will be resumed."""
    from quota.client import ExperimentHandle

    with opened(database) as (services, settings):
        services.queries.require(experiment_id)
        receipt = ExperimentHandle(services, settings.actor, experiment_id).finished()
    if as_json:
        print_json({"experiment_id": experiment_id, "position": receipt.position})
    else:
        typer.echo(f"experiment {experiment_id} is finished")

"""`ckpt-quota pin` and `unpin`: keep a checkpoint whatever happens."""

from __future__ import annotations

from typing import Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json

ExperimentArgument = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Its experiment.")]
TrialArgument = Annotated[str, typer.Argument(metavar="TRIAL", help="Its trial.")]
UriOption = Annotated[str | None, typer.Option("--uri", help="Which checkpoint; the trial's newest by default.")]


def pin(
    experiment_id: ExperimentArgument,
    trial_id: TrialArgument,
    uri: UriOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a checkpoint from being evicted."""
    found = _change(experiment_id, trial_id, uri, database, pinned=True)
    _answer(found, "is pinned", as_json=as_json)


def unpin(
    experiment_id: ExperimentArgument,
    trial_id: TrialArgument,
    uri: UriOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a pinned checkpoint be evicted again."""
    found = _change(experiment_id, trial_id, uri, database, pinned=False)
    _answer(found, "may be evicted again", as_json=as_json)


def _change(experiment_id: str, trial_id: str, uri: str | None, database: str | None, *, pinned: bool) -> str:
    from quota.client import ExperimentHandle

    with opened(database) as (services, settings):
        services.queries.require(experiment_id)
        handle = ExperimentHandle(services, settings.actor, experiment_id)
        location = uri or services.queries.newest_uri(experiment_id, trial_id)
        change = handle.checkpoint_pinned if pinned else handle.checkpoint_unpinned
        change(trial_id, location=location)
        return location


def _answer(uri: str, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"uri": uri})
    else:
        typer.echo(f"{uri} {what}")

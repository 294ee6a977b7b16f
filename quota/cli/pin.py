"""`ckpt-quota pin` and `unpin`: keep a checkpoint, or all of a scope, whatever happens."""

from __future__ import annotations

from typing import Annotated

import typer

from quota.cli.scopes import ScopeOption, answer, note_unknown, scope_text
from quota.cli.session import DatabaseOption, JsonOption, caught_up, opened, print_json
from quota.cli.tables import print_table

ExperimentArgument = Annotated[str | None, typer.Argument(metavar="EXPERIMENT", help="Its experiment.")]
TrialArgument = Annotated[str | None, typer.Argument(metavar="TRIAL", help="Its trial.")]
UriOption = Annotated[str | None, typer.Option("--uri", help="Which checkpoint; the trial's newest by default.")]


def pin(
    experiment_id: ExperimentArgument = None,
    trial_id: TrialArgument = None,
    uri: UriOption = None,
    scope: ScopeOption = None,
    is_listed: Annotated[bool, typer.Option("--list", help="List what is pinned, and pin nothing.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a checkpoint from being evicted, or all of a scope, present and future ones."""
    if is_listed:
        if any(given is not None for given in (experiment_id, trial_id, uri, scope)):
            message = "it lists all that is pinned, and takes nothing else"
            raise typer.BadParameter(message, param_hint="'--list'")
        _list(database, as_json=as_json)
        return
    named = _scope(experiment_id, trial_id, uri, scope)
    if named is None:
        found = _change(experiment_id or "", trial_id or "", uri, database, pinned=True)
        answer({"uri": found}, f"{found} is pinned", None, as_json=as_json)
        return
    with opened(database) as (services, _):
        pinned = services.administration.pin_scope(named)
        caught_up(services, as_json=as_json)
        note = note_unknown(services, pinned.scope, "the pin holds")
    text = f"{pinned.scope} is pinned: none of its checkpoints is evicted"
    answer({"scope": pinned.scope}, text, note, as_json=as_json)


def unpin(
    experiment_id: ExperimentArgument = None,
    trial_id: TrialArgument = None,
    uri: UriOption = None,
    scope: ScopeOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let what is pinned be evicted again."""
    named = _scope(experiment_id, trial_id, uri, scope)
    if named is None:
        found = _change(experiment_id or "", trial_id or "", uri, database, pinned=False)
        answer({"uri": found}, f"{found} is no longer pinned", None, as_json=as_json)
        return
    with opened(database) as (services, _):
        services.administration.unpin_scope(named)
    text = f"{named} may be evicted again, but for what is pinned otherwise (see: ckpt-quota pin --list)"
    answer({"scope": named}, text, None, as_json=as_json)


def _scope(experiment_id: str | None, trial_id: str | None, uri: str | None, scope: str | None) -> str | None:
    """Return the scope that is meant; None where it is one checkpoint."""
    if scope is not None:
        if experiment_id is not None or uri is not None:
            message = "give either a scope, or an experiment and its trial"
            raise typer.BadParameter(message, param_hint="'--scope'")
        return scope_text(scope, None)
    if experiment_id is None or trial_id is None:
        message = "name an experiment and its trial, or give a --scope"
        raise typer.BadParameter(message, param_hint="'EXPERIMENT TRIAL' / '--scope'")
    return None


def _list(database: str | None, *, as_json: bool) -> None:
    from quota.services.querying import PINNED

    with opened(database) as (services, _):
        caught_up(services, as_json=as_json)
        scopes = sorted(services.administration.look().pins.values(), key=lambda one: one.parsed_scope.order)
        checkpoints = services.queries.ask(PINNED)
    if as_json:
        listed = [{"scope": one.scope, "pinned_at": one.pinned_at, "actor": one.actor} for one in scopes]
        print_json({"scopes": listed, "checkpoints": checkpoints})
        return
    print_table(
        "Scopes, of which nothing is evicted",
        ["scope", "pinned", "by"],
        [[one.scope, one.pinned_at, one.actor] for one in scopes],
        "no scope is pinned; pin one with: ckpt-quota pin --scope label:KEY=VALUE",
        optional=["by", "pinned"],
    )
    print_table(
        "Checkpoints pinned by hand",
        ["experiment", "trial", "state", "uri"],
        [[row["experiment_id"], row["trial_id"], row["state"], row["uri"]] for row in checkpoints],
        "no checkpoint is pinned by hand; pin one with: ckpt-quota pin EXPERIMENT TRIAL",
        places="uri",
        optional=["state"],
    )


def _change(experiment_id: str, trial_id: str, uri: str | None, database: str | None, *, pinned: bool) -> str:
    from quota.client import ExperimentHandle

    with opened(database) as (services, settings):
        services.queries.require(experiment_id)
        handle = ExperimentHandle(services, settings.actor, experiment_id)
        location = uri or services.queries.newest_uri(experiment_id, trial_id)
        change = handle.checkpoint_pinned if pinned else handle.checkpoint_unpinned
        change(trial_id, location=location)
        return location

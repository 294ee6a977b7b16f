"""What the commands about limits, reserves and pins share: the scope, and amounts as people write and read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.session import print_json
from quota.cli.store import root_uri
from quota.cli.tables import counted, size_text

if TYPE_CHECKING:
    from quota.bootstrap import Services

ScopeOption = Annotated[
    str | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="deployment, store:ROOT, label:KEY=VALUE, experiments (each one by itself), or experiment:ID.",
    ),
]
OneExperimentOption = Annotated[
    str | None, typer.Option("--experiment", "-e", metavar="ID", help="The same as --scope experiment:ID.")
]

_STORE = "store:"
_MOST_SHARES = 3


def scope_text(scope: str | None, experiment_id: str | None) -> str | None:
    """Return the scope that was given, in either way, as the log has it: of a store's a path becomes its URI."""
    if scope is not None and experiment_id is not None:
        message = "give one of --scope and --experiment"
        raise typer.BadParameter(message, param_hint="'--experiment'")
    if experiment_id is not None:
        return f"experiment:{experiment_id}"
    if scope is not None and scope.startswith(_STORE) and scope != _STORE:
        return _STORE + root_uri(scope.removeprefix(_STORE))
    return scope


def required_scope(scope: str | None, experiment_id: str | None) -> str:
    """Return the same where one has to be given."""
    found = scope_text(scope, experiment_id)
    if found is None:
        message = "say what it is for: --scope SCOPE, or --experiment ID"
        raise typer.BadParameter(message, param_hint="'--scope'")
    return found


def amount(thing: str, field: str, text: str, parse: Callable[[str], int]) -> int:
    """Read an amount.

    Raises:
        SettingsRefused: it is none.
    """
    from quota.errors import SettingsRefused

    try:
        return parse(text)
    except ValueError as error:
        raise SettingsRefused(thing, field, text, str(error)) from error


def count(text: str) -> int:
    """Return the whole number that a text says.

    Raises:
        ValueError: it says none.
    """
    if not (text.isascii() and text.isdecimal()):
        message = "write a whole number: 20"
        raise ValueError(message)
    return int(text)


def amount_text(measure: str, value: int) -> str:
    """Return an amount as people read it."""
    match measure:
        case "checkpoints":
            return counted(value, "checkpoint")
        case "free_percent":
            return f"{value}%"
        case _:
            return size_text(value)


def shares_text(measure: str, shares: Mapping[str, int]) -> str | None:
    """Say who uses most."""
    used = [(one, share) for one, share in shares.items() if share]
    if not used:
        return None
    kind = "checkpoints" if measure == "checkpoints" else "bytes"
    shown = [f"{one} {share if kind == 'checkpoints' else size_text(share)}" for one, share in used[:_MOST_SHARES]]
    more = len(used) - _MOST_SHARES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def note_unknown(services: Services, scope: str, what: str) -> str | None:
    """Say that nothing belongs to a scope yet, which may be a misspelling; None where something does."""
    from quota.domain.scopes import Scope

    named = Scope.parse(scope)
    match named.kind:
        case "experiment" if named.name not in services.queries.experiment_ids():
            return f"no experiment {named.name} is registered yet; {what} once it is"
        case "label" if named.label not in services.limit_uses.labels():
            return f"no experiment is labelled {named.name} yet; {what} once one is"
        case "store" if not services.administration.look().stores_near(named.name):
            return f"{named.name} lies in no store, so nothing there is evicted; allow it: ckpt-quota store add ROOT"
        case _:
            return None


def answer(told: Mapping[str, Any], text: str, note: str | None, *, as_json: bool) -> None:
    """Print what was done; on standard error what is strange about it."""
    if as_json:
        print_json(dict(told))
    else:
        typer.echo(text)
    if note is not None:
        typer.echo(note, err=True)

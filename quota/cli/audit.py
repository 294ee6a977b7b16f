"""`ckpt-quota audit`: prove that the log was not touched, and hand it out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, progress

if TYPE_CHECKING:
    from quota.services.auditing import Head

app = typer.Typer(help="Verify and export the event log.", no_args_is_help=True)

_FAILED = 1


@app.command()
def verify(
    heads: Annotated[
        str | None, typer.Option("--heads", metavar="FILE", help="Compare with heads that were kept elsewhere.")
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every stream's hash chain; name the first changed, missing or reordered row of each."""
    faults: list[dict[str, object]] = []
    with opened(database) as (services, _), progress(quiet=as_json) as bar:
        expected = services.auditor.heads() if heads is None else _kept(heads)
        task = bar.add_task("events", total=sum(head.position for head in expected))
        for head in expected:
            fault = services.auditor.verify(head, lambda more: bar.advance(task, more))
            if fault is not None:
                faults.append(
                    {"experiment_id": fault.experiment_id, "position": fault.position, "reason": fault.reason}
                )
        faults += [
            {"experiment_id": stream, "position": 0, "reason": "the stream has events and no head"}
            for stream in services.auditor.orphans()
        ]
    events = sum(head.position for head in expected)
    if as_json:
        print_json({"streams": len(expected), "events": events, "faults": faults})
    elif not faults:
        typer.echo(f"{len(expected)} streams, {events} events: every chain holds")
    for found in [] if as_json else faults:
        typer.echo(f"{found['experiment_id']}, event {found['position']}: {found['reason']}", err=True)
    if faults:
        raise typer.Exit(_FAILED)


@app.command()
def head(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Print the chains' heads. Keep them elsewhere: without that a chain proves little."""
    with opened(database) as (services, _):
        heads = services.auditor.heads()
    if as_json:
        print_json([{"experiment_id": one.experiment_id, "position": one.position, "hash": one.hash} for one in heads])
        return
    for one in heads:
        typer.echo(f"{one.hash}  {one.position}  {one.experiment_id}")


@app.command()
def export(
    experiment_id: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Its id, or _deployment.")],
    database: DatabaseOption = None,
) -> None:
    """Print a stream's events as JSON lines in the wire form, those of sweeps included."""
    with opened(database) as (services, _):
        if experiment_id != "_deployment":
            services.queries.require(experiment_id)
        for line in services.auditor.export(experiment_id):
            sys.stdout.write(f"{line}\n")


def _kept(file: str) -> list[Head]:
    """Read what `audit head` printed.

    Raises:
        SettingsRefused: the file cannot be read, or holds something else.
    """
    from quota.errors import SettingsRefused
    from quota.services.auditing import Head

    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsRefused("heads", "file", file, f"it cannot be read: {error}") from error
    if text.startswith("["):
        return _kept_as_json(text, file)
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split("  ", maxsplit=2)
        if len(parts) != len(("hash", "position", "stream")) or not parts[1].isdecimal():
            reason = f"line {number} is no head; the file holds what `ckpt-quota audit head` printed"
            raise SettingsRefused("heads", "file", file, reason)
        found.append(Head(parts[2], int(parts[1]), parts[0]))
    return found


def _kept_as_json(text: str, file: str) -> list[Head]:
    from quota.errors import SettingsRefused
    from quota.services.auditing import Head

    try:
        return [Head(one["experiment_id"], int(one["position"]), one["hash"]) for one in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it holds no heads ({error!r}); the file holds what `ckpt-quota audit head --json` printed"
        raise SettingsRefused("heads", "file", file, reason) from error

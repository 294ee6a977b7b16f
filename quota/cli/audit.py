"""`ckpt-quota audit`: prove that the log was not touched, and hand it out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, progress

if TYPE_CHECKING:
    from quota.services.auditing import Head

app = typer.Typer(help="Verify and export the event log.", no_args_is_help=True)


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
        present = services.auditor.heads()
        kept = [] if heads is None else _kept(heads)
        named = {head.experiment_id for head in kept}
        unkept = [head for head in present if head.experiment_id not in named]
        expected = [*kept, *unkept]
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
        counts = {"streams": len(expected), "without_kept_head": len(unkept), "events": events}
        print_json(counts | {"faults": faults})
    elif not faults:
        typer.echo(f"{len(expected)} streams, {events} events: every chain holds")
        if heads is not None and unkept:
            typer.echo(f"{len(unkept)} of them were compared with no head of {heads}: they are newer than it")
    for found in [] if as_json else faults:
        typer.echo(f"{found['experiment_id']}, event {found['position']}: {found['reason']}", err=True)
    if faults:
        raise typer.Exit(FAILED)


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
        # JSON lines are UTF-8, whatever the locale is.
        output = typer.get_binary_stream("stdout")
        for line in services.auditor.export(experiment_id):
            output.write(f"{line}\n".encode())


def _kept(file: str) -> list[Head]:
    """Read what `audit head` printed.

    Raises:
        SettingsRefused: the file cannot be read, or holds something else.
    """
    from quota.errors import SettingsRefused
    from quota.services.auditing import parse_heads

    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsRefused("heads", "file", file, f"it cannot be read: {error}") from error
    if not text.strip():
        raise SettingsRefused("heads", "file", file, "it is empty, so it would prove nothing; keep heads anew")
    try:
        return parse_heads(text)
    except ValueError as error:
        reason = f"{error}; the file holds what `ckpt-quota audit head` printed, with --json or without"
        raise SettingsRefused("heads", "file", file, reason) from error

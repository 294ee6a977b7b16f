"""`ckpt-quota rebuild`: make the projections anew, or compare them with the log."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, progress

_SHOWN = 20


def rebuild(
    verify: Annotated[bool, typer.Option("--verify", help="Change nothing; compare row by row with the log.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the projections anew from the log. Recorders may go on meanwhile."""
    from quota.projections.rebuild import streams_to_project

    differences: list[dict[str, Any]] = []
    with opened(database) as (services, _), progress(quiet=as_json) as bar:
        with services.database.read() as connection:
            streams = streams_to_project(connection, services.log)
        events = sum(position for _, position in streams)
        task = bar.add_task("events", total=events)

        def read(more: int) -> None:
            bar.advance(task, more)

        for stream_id, _ in streams:
            if not verify:
                services.rebuilder.rebuild(stream_id, read)
                continue
            differences += [
                {"table": one.table, "key": one.key, "stored": one.stored, "rebuilt": one.rebuilt}
                for one in services.rebuilder.verify(stream_id, read)
            ]
    if as_json:
        print_json({"streams": len(streams), "events": events, "verified": verify, "differences": differences})
    else:
        _answer(len(streams), events, differences, verify=verify)
    if differences:
        raise typer.Exit(FAILED)


def _answer(streams: int, events: int, differences: list[dict[str, Any]], *, verify: bool) -> None:
    if not verify:
        typer.echo(f"{streams} streams rebuilt from {events} events")
    elif not differences:
        typer.echo(f"{streams} streams verified: every row is what the log adds up to")
    for one in differences[:_SHOWN]:
        typer.echo(
            f"{one['table']} {one['key']}: stored {one['stored']}, the log adds up to {one['rebuilt']}", err=True
        )
    if differences:
        typer.echo(f"{len(differences)} rows differ; make them anew with: ckpt-quota rebuild", err=True)

"""`ckpt-quota ingest`: read events from JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, progress


def ingest(
    file: Annotated[str, typer.Argument(help="A file with one JSON object a line, or - for standard input.")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store events from a file. An event that is stored already is not stored again, so a file can be resent."""
    from quota.errors import NotFound  # noqa: PLC0415 - `--help` does without
    from quota.services.ingesting import IngestReport  # noqa: PLC0415
    from quota.services.ingesting import ingest as read_events

    report = IngestReport()
    with opened(database) as (services, settings), progress(quiet=as_json) as bar:
        try:
            source: BinaryIO = typer.get_binary_stream("stdin") if file == "-" else Path(file).open("rb")
        except OSError as error:
            raise NotFound(f"file {file}: {error.strerror}; name a file, or - for standard input") from error
        with source:
            task = bar.add_task("events", total=None)
            for report in read_events(source, services.recorder, settings.actor):
                bar.update(task, completed=report.stored + report.stored_before)
    if as_json:
        print_json({"stored": report.stored, "stored_before": report.stored_before})
    else:
        before = f", {report.stored_before} were stored before" if report.stored_before else ""
        typer.echo(f"{report.stored} events stored{before}")

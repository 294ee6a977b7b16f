"""`ckpt-quota ingest`: read events from JSON lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, progress


@contextmanager
def _lines(file: str) -> Iterator[BinaryIO]:
    """Open the file, or standard input.

    Raises:
        NotFound: the file cannot be opened.
    """
    from quota.errors import NotFound

    if file == "-":
        yield typer.get_binary_stream("stdin")
        return
    path = Path(file)
    if not path.exists() or path.is_dir() or not os.access(path, os.R_OK):
        raise NotFound(f"file {file}: there is none that can be read; name a file, or - for standard input")
    with path.open("rb") as source:
        yield source


def ingest(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A file with one JSON object a line, or - for standard input.")
    ],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store events from a file. An event that is stored already is not stored again, so a file can be resent."""
    from quota.services.ingesting import IngestReport, bounded_lines
    from quota.services.ingesting import ingest as ingest_lines

    report = IngestReport()
    with opened(database) as (services, settings), progress(quiet=as_json) as bar:
        task = bar.add_task("events", total=None)
        with _lines(file) as lines:
            for report in ingest_lines(bounded_lines(lines), services.recorder, settings.actor):
                bar.update(task, completed=report.stored + report.stored_before)
    if as_json:
        print_json({"stored": report.stored, "stored_before": report.stored_before})
    else:
        before = f", {report.stored_before} were stored before" if report.stored_before else ""
        typer.echo(f"{report.stored} events stored{before}")

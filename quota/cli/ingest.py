"""`ckpt-quota ingest`: read events from JSON lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.failures import Unfinished, described
from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, progress
from quota.cli.tables import counted

if TYPE_CHECKING:
    from quota.services.ingesting import IngestReport


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
    check: Annotated[
        bool, typer.Option("--check", help="Store nothing; show what is wrong with each line by itself.")
    ] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store events from a file. An event that is stored already is not stored again, so a file can be resent."""
    if check:
        _check(file, database, as_json=as_json)
        return
    from quota.errors import QuotaError
    from quota.services.ingesting import IngestReport, bounded_lines
    from quota.services.ingesting import ingest as ingest_lines

    report = IngestReport()
    with opened(database) as (services, settings), progress(quiet=as_json) as bar, _lines(file) as lines:
        task = bar.add_task("events", total=None)
        try:
            for report in ingest_lines(bounded_lines(lines), services.recorder, settings.actor):
                bar.update(task, completed=report.stored + report.stored_before)
        except QuotaError as error:
            done = _counts(report) | {"not_stored_from_line": report.lines + 1}
            raise Unfinished(error, done, _so_far(report)) from error
    if as_json:
        print_json(_counts(report))
    else:
        typer.echo(_in_words(report))


def _counts(report: IngestReport) -> dict[str, int]:
    return {"stored": report.stored, "stored_before": report.stored_before}


def _in_words(report: IngestReport) -> str:
    before = f", {report.stored_before} were stored before" if report.stored_before else ""
    return f"{report.stored} events stored{before}"


def _so_far(report: IngestReport) -> str:
    return (
        f"{_in_words(report)}, and nothing from line {report.lines + 1} on; mend that, and read the whole file again: "
        "what is stored is not stored twice (--check shows all lines that are no events)"
    )


def _check(file: str, database: str | None, *, as_json: bool) -> None:
    from quota.services.ingesting import bounded_lines
    from quota.services.ingesting import check as check_lines
    from quota.settings import load_settings

    settings = load_settings(database=database)
    with _lines(file) as lines:
        report = check_lines(bounded_lines(lines), settings.actor)
    if as_json:
        mistakes = [{"line": number, **described(error)} for number, error in report.mistakes.items()]
        print_json({"events": report.events, "refused": report.refused, "mistakes": mistakes})
    else:
        for error in report.mistakes.values():
            typer.echo(str(error), err=True)
        more = report.refused - len(report.mistakes)
        if more:
            typer.echo(f"{more} more", err=True)
        rest = "whether the log admits them is seen then"
        if report.refused:
            rest = f"{counted(report.refused, 'line')} refused"
        typer.echo(f"{counted(report.events, 'event')} could be stored; {rest}")
    if report.refused:
        raise typer.Exit(FAILED)

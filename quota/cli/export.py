"""`ckpt-quota audit export`: hand out events, decisions, or any of the auditors' views."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from quota.cli.session import DatabaseOption, caught_up, opened, progress
from quota.cli.tables import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quota.bootstrap import Services
    from quota.errors import QuotaError
    from quota.services.exporting import Export
    from quota.services.heads import Head

_TOLD_EVERY = 1_000


class Form(StrEnum):
    """What it is written as."""

    WIRE = "wire"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


def export(
    experiment_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EXPERIMENT]...", help="Only these, or _deployment; all where none is named."),
    ] = None,
    what: Annotated[
        str, typer.Option("--what", "-w", metavar="NAME", help="events, decisions, or one of the SQL views.")
    ] = "events",
    form: Annotated[
        Form | None,
        typer.Option("--format", "-f", help="By default wire (what `ingest` reads) for events, else jsonl."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="A new file; standard output by default.")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option("--heads", metavar="FILE", help="A new file for the ends of the chains; they are shown else."),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Write out events, decisions or a view, as of one moment: as CSV, JSON lines or Parquet.

    With events go the ends of their chains, to be kept elsewhere: `audit verify --heads FILE` compares them.
    """
    from quota.services.exporting import EVENTS

    chosen = form or (Form.WIRE if what == EVENTS else Form.JSONL)
    _require_sense(what, chosen, output, heads)
    with opened(database) as (services, _), progress(quiet=False) as bar:
        streams = _streams(services, experiment_ids or [])
        if what != EVENTS:
            caught_up(services, streams or None, as_json=False)
        with services.exporter.exported(what, streams) as found:
            task = bar.add_task(what, total=sum(head.position for head in found.heads) or None)

            def ticking(rows: Iterable[Any]) -> Iterator[Any]:
                for count, row in enumerate(rows, start=1):
                    yield row
                    if count % _TOLD_EVERY == 0:
                        bar.update(task, completed=count)

            with _output(output) as stream:
                written = _write(stream, found, chosen, ticking)
    _tell(found.heads, heads)
    for experiment_id, uri in found.archived.items():
        typer.echo(f"{experiment_id}: its events are not in the log, but in the archive {uri}", err=True)
    if output is not None:
        typer.echo(f"{counted(written, 'row')} written to {output}", err=True)


def _require_sense(what: str, form: Form, output: str | None, heads: str | None) -> None:
    """Check what is asked for, before anything is read.

    Raises:
        SettingsRefused: a file is there already, or pyarrow is missing.
    """
    from quota.services.exporting import EVENTS, EXPORTED
    from quota.services.parquet import require_pyarrow

    if what not in EXPORTED:
        raise typer.BadParameter(f"there is no {what!r}; there are {', '.join(EXPORTED)}", param_hint="--what")
    if form is Form.WIRE and what != EVENTS:
        raise typer.BadParameter("only events have a wire form; write jsonl, csv or parquet", param_hint="--format")
    if heads is not None and what != EVENTS:
        raise typer.BadParameter("only events have chains", param_hint="--heads")
    if form is Form.PARQUET:
        if output is None:
            raise typer.BadParameter("Parquet needs a file: --output FILE", param_hint="--format")
        require_pyarrow("export")
    for file in (output, heads):
        if file is not None and "\0" in file:
            raise _refused(file, "this is no name of a file")
        if file is not None and os.path.lexists(file):
            raise _refused(file, "something is there already; name another file")


def _streams(services: Services, experiment_ids: Sequence[str]) -> list[str]:
    """Return the streams that are named.

    Raises:
        NotFound: there is no such experiment.
    """
    from quota.domain.identifiers import DEPLOYMENT_STREAM

    for experiment_id in experiment_ids:
        if experiment_id != DEPLOYMENT_STREAM:
            services.queries.require(experiment_id)
    return list(experiment_ids)


@contextmanager
def _output(file: str | None) -> Iterator[BinaryIO]:
    """Open standard output, or a new file that has its name once all is written.

    Raises:
        SettingsRefused: something is there by now, or the file cannot be written.
    """
    from quota.services.whole_files import written_whole

    if file is None:
        # JSON lines are UTF-8, whatever the locale is.
        yield typer.get_binary_stream("stdout")
        return
    try:
        with written_whole(Path(file)) as stream:
            yield stream
    except FileExistsError as error:
        raise _refused(file, "something is there by now; name another file") from error
    except OSError as error:
        raise _refused(file, f"it cannot be written: {error.strerror or error}") from error


def _refused(file: str, reason: str) -> QuotaError:
    from quota.errors import SettingsRefused

    return SettingsRefused("export", "file", file, reason)


def _write(stream: BinaryIO, found: Export, form: Form, ticking: Callable[[Iterable[Any]], Iterator[Any]]) -> int:
    """Write all rows, and return how many there were."""
    from quota.services.export_formats import csv_lines, json_lines
    from quota.services.parquet import write_parquet

    if form is Form.PARQUET:
        return write_parquet(stream, found.columns, ticking(found.rows))
    lines: Iterable[bytes]
    if form is Form.WIRE:
        lines = (f"{line}\n".encode() for line in ticking(found.lines))
    else:
        write_lines = csv_lines if form is Form.CSV else json_lines
        lines = write_lines(found.columns, ticking(found.rows))
    written = 0
    for line in lines:
        stream.write(line)
        written += 1
    return written - (form is Form.CSV)


def _tell(heads: Sequence[Head], file: str | None) -> None:
    """Write to a file, or say on stderr, which heads are to be kept."""
    if file is not None:
        with _output(file) as stream:
            stream.writelines(f"{head.line}\n".encode() for head in heads)
        return
    if heads:
        typer.echo("heads, to be kept elsewhere:", err=True)
    for head in heads:
        typer.echo(head.line, err=True)

"""`ckpt-quota archive`: events of finished experiments as Parquet, on a disk or in a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, progress
from quota.cli.tables import counted, print_table

if TYPE_CHECKING:
    from quota.bootstrap import Services
    from quota.domain.archives import Archive

app = typer.Typer(
    help="Keep the events of finished experiments as Parquet, and take them out of the log.", no_args_is_help=True
)

ExperimentArgument = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Its id.")]
ArchiveArgument = Annotated[
    str, typer.Argument(metavar="ARCHIVE", help="Where it lies, as `archive list` has it; or an experiment's id.")
]


@app.command()
def create(
    experiment_id: ExperimentArgument,
    to: Annotated[str, typer.Option("--to", metavar="PLACE", help="A directory, or s3://bucket/prefix/.")],
    remove: Annotated[bool, typer.Option("--remove-events", help="Then do what `archive remove-events` does.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an experiment's events to Parquet, and read them back from there before that is recorded."""
    with opened(database) as (services, _), _reading(quiet=as_json) as read:
        archive = services.archiver.create(experiment_id, _destination(to), read)
        if remove:
            archive = services.event_remover.remove(experiment_id, read)
    _answer(archive, "written and read back", as_json=as_json)


@app.command("remove-events")
def remove_events(
    experiment_id: ExperimentArgument, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Take an experiment's events out of the log, once it is finished, holds nothing, and is archived.

    The archive is read once more before. What the views say of the experiment stays, but for trial_history.
    """
    with opened(database) as (services, _), _reading(quiet=as_json) as read:
        archive = services.event_remover.remove(experiment_id, read)
    _answer(archive, "removed from the log", as_json=as_json)


@app.command()
def restore(archive: ArchiveArgument, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Put an archive's events into the log, as they were; also into a database that never had them."""
    with opened(database) as (services, _), _reading(quiet=as_json) as read:
        restored = services.event_restorer.restore(_uri_of(services, archive), read)
        services.queries.catch_up([restored.experiment_id])
    _answer(restored, "put into the log", as_json=as_json)


@app.command()
def verify(archive: ArchiveArgument, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Read an archive, and prove that its files and its chain are what it says.

    Where the database knows the archive, the manifest has to be the one that was recorded. Of a place that is given as
    such no database is asked: compare the head and the digest that are printed with what you kept.
    """
    from quota.services.archive_places import place_at
    from quota.services.archive_reading import ArchiveReader
    from quota.services.parquet import require_pyarrow

    require_pyarrow("archive")
    recorded = None
    if _is_place(archive):
        uri = _place_uri(archive)
    else:
        with opened(database) as (services, _):
            known = _known(services, archive)
        uri, recorded = known.uri, known.manifest_sha256
    with _reading(quiet=as_json) as read:
        reader = ArchiveReader(place_at(uri))
        if recorded is not None:
            reader.require_recorded(recorded)
        reader.verify(read)
    manifest = reader.manifest
    if as_json:
        told = {"uri": uri, "experiment_id": manifest.experiment_id, "position": manifest.head.position}
        print_json(told | {"hash": manifest.head.hash, "manifest_sha256": reader.manifest_sha256})
        return
    typer.echo(
        f"{uri}: {counted(manifest.head.position, 'event')} of {manifest.experiment_id}: every file and the chain hold"
    )
    typer.echo(f"head: {manifest.head.hash}  {manifest.head.position}  {manifest.experiment_id}")
    typer.echo(f"SHA-256 of its manifest: {reader.manifest_sha256}")


@app.command("list")
def list_archives(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List the archives that were recorded."""
    with opened(database) as (services, _):
        found = services.archive_book.known()
    if as_json:
        print_json([_plain(one) for one in found])
        return
    print_table(
        "Archives",
        ["experiment", "events", "archived", "in the log", "uri"],
        [[one.experiment_id, one.position, one.archived_at, one.removed_at is None, one.uri] for one in found],
        "no archives yet; write one with: ckpt-quota archive create EXPERIMENT --to PLACE",
        places="uri",
    )


def _answer(archive: Archive, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_plain(archive))
    else:
        typer.echo(f"{counted(archive.position, 'event')} of {archive.experiment_id} {done}: {archive.uri}")


def _plain(archive: Archive) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(archive)


@contextmanager
def _reading(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show how many events have been read."""
    with progress(quiet=quiet) as bar:
        task = bar.add_task("events read", total=None)
        yield lambda more: bar.advance(task, more)


def _destination(to: str) -> str:
    """Return the URI of where archives are to lie, of which a bucket's may be given without its final slash."""
    uri = _place_uri(to)
    return f"{uri}/" if uri.startswith("s3://") and not uri.endswith("/") else uri


def _place_uri(place: str) -> str:
    from quota.cli.store import root_uri

    return root_uri(place)


def _is_place(text: str) -> bool:
    return "://" in text or text.startswith(("/", "./", "../", "~"))


def _uri_of(services: Services, archive: str) -> str:
    return _place_uri(archive) if _is_place(archive) else _known(services, archive).uri


def _known(services: Services, experiment_id: str) -> Archive:
    """Return an experiment's archive: the one that has its events alone, or else the latest.

    Raises:
        NotFound: there is none.
    """
    from quota.errors import NotFound
    from quota.services.querying import named

    found = services.archive_book.known(experiment_id)
    if not found:
        advice = "`ckpt-quota archive list` lists them; name one by its place, with a slash in it"
        raise NotFound(f"archive of {named(experiment_id)}: there is none; {advice}")
    return next((one for one in found if one.removed_at is not None), found[0])

"""`ckpt-quota rebuild`: make the projections anew, or compare them with the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.failures import described
from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, progress

if TYPE_CHECKING:
    from quota.bootstrap import Services
    from quota.errors import QuotaError

_SHOWN = 20


def rebuild(
    experiment_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EXPERIMENT]...", help="Only these, or _deployment; all where none is named."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Change nothing; compare row by row with the log.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the projections anew from the log. Recorders may go on meanwhile.

    Where a stream contradicts itself, its rows stay as they are, and the others go on.
    """
    from quota.errors import LogCorrupt, ProjectionDiverged, StreamArchived

    differences: list[dict[str, Any]] = []
    failures: dict[str, QuotaError] = {}
    skipped: dict[str, QuotaError] = {}
    with opened(database) as (services, _), progress(quiet=as_json) as bar:
        streams = _streams(services, experiment_ids)
        task = bar.add_task("events", total=sum(streams.values()))

        def read(more: int) -> None:
            bar.advance(task, more)

        for stream_id in streams:
            try:
                if verify:
                    differences += [
                        {"table": one.table, "key": one.key, "stored": one.stored, "rebuilt": one.rebuilt}
                        for one in services.rebuilder.verify(stream_id, read)
                    ]
                else:
                    services.rebuilder.rebuild(stream_id, read)
            except (LogCorrupt, ProjectionDiverged) as error:
                failures[stream_id] = error
            except StreamArchived as error:
                # There is nothing here to make its rows from, so they stay.
                (failures if experiment_ids else skipped)[stream_id] = error
    done = [position for stream_id, position in streams.items() if stream_id not in {**failures, **skipped}]
    if as_json:
        failed = [{"experiment_id": stream_id, **described(error)} for stream_id, error in failures.items()]
        counts = {"streams": len(done), "events": sum(done), "verified": verify, "skipped": sorted(skipped)}
        print_json(counts | {"differences": differences, "failed": failed})
    else:
        for reason in skipped.values():
            typer.echo(f"skipped, and its rows left as they are: {reason}", err=True)
        _answer(done, differences, failures, verify=verify)
    if differences or failures:
        raise typer.Exit(FAILED)


def _streams(services: Services, experiment_ids: Sequence[str] | None) -> dict[str, int]:
    """Return the streams that are meant, each with the position of its last event: 0 where only rows tell of it.

    Raises:
        NotFound: one of those named does not exist.
    """
    from quota.domain.identifiers import DEPLOYMENT_STREAM
    from quota.projections.rebuild import stray_streams, streams_to_project

    with services.database.read() as connection:
        streams = dict(streams_to_project(connection, services.log))
        if not experiment_ids:
            streams |= dict.fromkeys(stray_streams(connection, services.log), 0)
    for experiment_id in experiment_ids or []:
        if experiment_id != DEPLOYMENT_STREAM:
            services.queries.require(experiment_id)
    return {name: position for name, position in streams.items() if not experiment_ids or name in experiment_ids}


def _answer(
    done: Sequence[int], differences: list[dict[str, Any]], failures: dict[str, QuotaError], *, verify: bool
) -> None:
    if not verify:
        typer.echo(f"{len(done)} streams rebuilt from {sum(done)} events")
    elif not differences and not failures:
        typer.echo(f"{len(done)} streams verified: every row is what the log adds up to")
    for one in differences[:_SHOWN]:
        typer.echo(
            f"{one['table']} {one['key']}: stored {one['stored']}, the log adds up to {one['rebuilt']}", err=True
        )
    if differences:
        typer.echo(
            f"{len(differences)} rows differ; run `ckpt-quota audit verify` first: where every chain holds, make them "
            "anew with: ckpt-quota rebuild",
            err=True,
        )
    for failure in failures.values():
        typer.echo(f"failed: {failure}", err=True)

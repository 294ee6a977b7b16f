"""`ckpt-quota adopt`: make a checkpoint of what lies in a store and belongs to none."""

from __future__ import annotations

from typing import Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json
from quota.cli.tables import size_text


def adopt(
    location: Annotated[str, typer.Argument(metavar="LOCATION", help="Its path or URI, from `ckpt-quota reconcile`.")],
    experiment_id: Annotated[str, typer.Option("--experiment", "-e", metavar="ID", help="Its trial's experiment.")],
    trial_id: Annotated[str, typer.Option("--trial", "-t", metavar="ID", help="The trial that has written it.")],
    resource: Annotated[
        int, typer.Option("--resource", metavar="N", help="Units that the trial had consumed by then, e.g. epochs.")
    ],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put an orphan under management, as the latest checkpoint of a trial: it can be resumed from, and evicted."""
    from quota.client import as_uri

    uri = as_uri(location)
    with opened(database) as (services, _):
        services.queries.require(experiment_id)
        manifest = services.adopter.adopt(experiment_id, trial_id, uri, resource)
    if as_json:
        print_json({"uri": uri, "files": len(manifest.entries), "size_bytes": manifest.size_bytes})
    else:
        typer.echo(f"{uri} is trial {trial_id}'s latest checkpoint now ({size_text(manifest.size_bytes)})")

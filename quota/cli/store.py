"""`ckpt-quota store`: where deletion is allowed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json
from quota.cli.tables import picked, print_table

app = typer.Typer(help="Say below which roots checkpoints may be deleted.", no_args_is_help=True)

RootArgument = Annotated[str, typer.Argument(metavar="ROOT", help="A directory, or a URI such as file:///scratch/hpo.")]

_SLASHES = {"file": "///", "s3": "//"}


def root_uri(root: str) -> str:
    """Return the URI of a root, which may be given as a path.

    Raises:
        SettingsRefused: it was meant as a URI, and is none.
    """
    from quota.domain.locations import file_location
    from quota.errors import SettingsRefused

    if "://" in root:
        # A directory's URI has no final slash; what completes file names on a command line adds one.
        return root.rstrip("/") if root.startswith("file:///") and root != "file:///" else root
    path = Path(root)
    scheme, _, rest = root.partition(":/")
    if scheme in _SLASHES and rest and not path.exists():
        raise SettingsRefused("root", "", root, f"a URI has more slashes; write {scheme}:{_SLASHES[scheme]}{rest}")
    # Links are kept as they are spelled, since checkpoints are spelled alike; only `..` means nothing in a URI.
    path = path.resolve() if ".." in path.parts else path.absolute()
    return file_location(os.fsencode(path)).uri


@app.command()
def add(
    root: RootArgument,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Though another database, or a newer copy of this one, has marked it.")
    ] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Allow sweeps to delete checkpoints below a root, and mark the root (.trash/.store)."""
    with opened(database) as (services, _):
        store = services.administration.add_store(root_uri(root), take_over=take_over)
    if as_json:
        print_json({"uri": store.uri, "store_id": store.store_id, "added_at": store.added_at, "actor": store.actor})
    else:
        typer.echo(f"checkpoints below {store.uri} may be evicted")


@app.command()
def remove(root: RootArgument, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Forbid it again. What is in its trash stays there."""
    with opened(database) as (services, _):
        services.administration.remove_store(root_uri(root))
    if as_json:
        print_json({"uri": root_uri(root)})
    else:
        typer.echo(f"checkpoints below {root_uri(root)} are no longer evicted")


@app.command("list")
def list_stores(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List the stores."""
    with opened(database) as (services, _):
        stores = services.administration.look().stores
    rows = [
        {"uri": store.uri, "store_id": store.store_id, "added_at": store.added_at, "actor": store.actor}
        for store in sorted(stores.values(), key=lambda one: one.uri)
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            "Stores",
            ["root", "added", "by"],
            picked(rows, ["uri", "added_at", "actor"]),
            "no stores yet, so nothing is ever deleted; allow it with: ckpt-quota store add ROOT",
            optional=["by", "added"],
        )

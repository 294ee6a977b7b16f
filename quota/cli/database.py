"""`ckpt-quota db`: the database's schema."""

from __future__ import annotations

import typer

from quota.cli.session import DatabaseOption, JsonOption, print_json

app = typer.Typer(help="Make a database ready, or see how it stands.", no_args_is_help=True)


@app.command()
def upgrade(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Make the tables, or bring them up to this version. Safe to run again."""
    from quota.eventlog.database import Database
    from quota.eventlog.schema import HEAD_REVISION
    from quota.services.migrating import upgrade as migrate
    from quota.settings import load_settings

    opened = Database(load_settings(database=database).database)
    try:
        migrate(opened)
        _answer(opened.url, HEAD_REVISION, HEAD_REVISION, as_json=as_json)
    finally:
        opened.close()


@app.command()
def current(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Print the schema's revision, and the one that this version works with."""
    from quota.eventlog.database import Database
    from quota.eventlog.schema import HEAD_REVISION, current_revision, require_there
    from quota.settings import load_settings

    opened = Database(load_settings(database=database).database)
    try:
        require_there(opened)
        with opened.read() as connection:
            _answer(opened.url, current_revision(connection), HEAD_REVISION, as_json=as_json)
    finally:
        opened.close()


@app.command()
def accept_clock(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Say that the present time is right, where the clock was wrong for a while and sweeps refuse to run since."""
    from quota.cli.session import opened

    with opened(database) as (services, _):
        last = services.administration.accept_clock()
    if as_json:
        print_json({"until": last.isoformat()})
    else:
        typer.echo(f"the clock is right; recorded times up to {last:%Y-%m-%d %H:%M:%S} UTC say nothing against it")


def _answer(url: str, revision: str | None, head: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"database": url, "revision": revision, "head": head})
    elif revision is None:
        typer.echo(f"{url}: empty; make it ready with: ckpt-quota db upgrade")
    else:
        typer.echo(f"{url}: revision {revision}" + ("" if revision == head else f"; this version needs {head}"))

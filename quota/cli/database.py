"""`ckpt-quota db`: the database's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, print_json
from quota.cli.tables import print_table

if TYPE_CHECKING:
    from quota.services.granting import Grants

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


@app.command()
def roles(
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="NAME", help="What the roles' names begin with; one for each deployment.")
    ] = "ckpt_quota",
    only_sql: Annotated[
        bool, typer.Option("--sql", "--dry-run", help="Change nothing; print the SQL for somebody who may run it.")
    ] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the roles owner, recorder, operator and auditor on PostgreSQL, and give each just its rights.

    Safe to run again, and to be run again after each `db upgrade`. Nobody can log in as one of them: grant them to
    users.
    """
    from quota.eventlog.database import Database
    from quota.services.granting import Granter
    from quota.settings import load_settings

    opened = Database(load_settings(database=database).database)
    try:
        granter = Granter(opened)
        grants = granter.look(prefix) if only_sql else granter.grant(prefix)
        url = opened.url
    finally:
        opened.close()
    _answer_roles(url, grants, granted=not only_sql, as_json=as_json)


def _answer_roles(url: str, grants: Grants, *, granted: bool, as_json: bool) -> None:
    from quota.services.roles import WORKING_ROLES, Role, rights

    names = grants.names
    if as_json:
        given = [{"role": names[one.role], "on": one.on, "privileges": one.privileges} for one in rights()]
        roles = {role.value: names[role] for role in Role}
        print_json(
            {"database": url, "roles": roles, "granted": granted, "rights": given, "statements": grants.statements}
        )
        return
    if not granted:
        typer.echo("BEGIN;")
        for statement in grants.statements:
            typer.echo(f"{statement};")
        typer.echo("COMMIT;")
        return
    rows = [(names[one.role], ", ".join(one.privileges), one.on) for one in rights()]
    print_table(f"Rights in {url}", ["role", "may", "on"], rows, "", prose="may")
    typer.echo(f"{names[Role.OWNER]} owns all of it; nobody but who migrates is to be a member")
    example = names[WORKING_ROLES[0]]
    typer.echo(f"nobody can log in as these; grant them to users, as by: GRANT {example} TO tuner;")


def _answer(url: str, revision: str | None, head: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"database": url, "revision": revision, "head": head})
    elif revision is None:
        typer.echo(f"{url}: empty; make it ready with: ckpt-quota db upgrade")
    else:
        typer.echo(f"{url}: revision {revision}" + ("" if revision == head else f"; this version needs {head}"))

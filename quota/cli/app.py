"""Puts the commands together, and turns errors into messages and exit codes."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from typing import Annotated

import typer

from quota.cli import (
    adopt,
    archive,
    audit,
    database,
    demo,
    doctor,
    evictions,
    experiment,
    explain,
    ingest,
    limit,
    pin,
    plan,
    rebuild,
    reconcile,
    reserve,
    restore,
    run,
    store,
    sweep,
)
from quota.cli.exit_codes import FAILED, USAGE
from quota.cli.failures import described, exit_code
from quota.errors import QuotaError
from quota.logs import are_json

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="ckpt-quota",
    help="Keep the checkpoints of hyperparameter tuning within a storage quota, and know why each one went.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 a limit is still exceeded.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from quota.bootstrap import software_version

        typer.echo(f"ckpt-quota {software_version()}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold what belongs to no command."""


app.command("demo")(demo.demo)
app.add_typer(database.app, name="db")
app.command("ingest")(ingest.ingest)
app.add_typer(experiment.app, name="experiment")
app.add_typer(store.app, name="store")
app.add_typer(limit.app, name="limit")
app.add_typer(reserve.app, name="reserve")
app.command("pin")(pin.pin)
app.command("unpin")(pin.unpin)
app.command("plan")(plan.plan)
app.command("sweep")(sweep.sweep)
app.command("run")(run.run)
app.command("evictions")(evictions.evictions)
app.command("explain")(explain.explain)
app.command("restore")(restore.restore)
app.command("reconcile")(reconcile.reconcile)
app.command("adopt")(adopt.adopt)
app.command("rebuild")(rebuild.rebuild)
app.add_typer(audit.app, name="audit")
app.add_typer(archive.app, name="archive")
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line. Whoever runs it sees messages, and no traceback."""
    _open_streams()
    try:
        app()
    except QuotaError as error:
        _print_error(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        _say("interrupted; what was begun is finished by the next sweep")
        sys.exit(FAILED)
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain again when it closes stdout.
        _forget_output()
        sys.exit(FAILED)
    except UnicodeEncodeError:
        _say("an argument or a variable holds bytes that are no text in this locale; write it in UTF-8")
        sys.exit(USAGE)
    except OSError as error:
        # Files of ours are named by errors of ours; what is left is the output.
        _say(f"cannot go on: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        _forget_output()
        sys.exit(FAILED)
    except Exception as error:
        if os.environ.get("QUOTA_TRACEBACK"):
            raise
        _say(
            f"this is a fault of ours: {type(error).__name__}: {error}\n"
            "set QUOTA_TRACEBACK=1, run it again, and report what it prints; nothing was deleted without a record"
        )
        sys.exit(FAILED)


def _open_streams() -> None:
    """Make standard streams usable that were closed, or that cannot spell every character."""
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Keep Python from complaining once more when it closes standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(error: QuotaError) -> None:
    if "--json" in sys.argv:
        typer.echo(json.dumps(described(error)), err=True)
    else:
        _say(str(error))


def _say(text: str) -> None:
    if are_json():
        logger.error("%s", text)
    else:
        typer.echo(f"ckpt-quota: {text}", err=True)

"""`ckpt-quota restore`: take evictions back."""

from __future__ import annotations

from typing import Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json
from quota.cli.tables import size_text


def restore(
    decision_ids: Annotated[
        list[str], typer.Argument(metavar="DECISION...", help="Ids of decisions, from `ckpt-quota evictions`.")
    ],
    pin: Annotated[bool, typer.Option("--pin", help="Pin them too, or the next sweep may evict them again.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move evicted checkpoints back from the trash to their places."""
    from quota.errors import DatabaseUnavailable, QuotaError

    done: list[dict[str, object]] = []
    failures: list[QuotaError] = []
    with opened(database) as (services, _):
        for decision_id in decision_ids:
            try:
                restored = services.restorer.restore(decision_id, pin=pin)
            except DatabaseUnavailable:
                raise
            except QuotaError as error:
                # The others are restored all the same: the next sweep may delete them for good.
                failures.append(error)
                continue
            done.append(
                {
                    "decision_id": decision_id,
                    "experiment_id": restored.experiment_id,
                    "trial_id": restored.trial_id,
                    "uri": restored.uri,
                    "size_bytes": restored.size_bytes,
                }
            )
            if not as_json:
                pinned = " and pinned" if pin else ""
                typer.echo(f"{restored.uri} is back{pinned} ({size_text(restored.size_bytes)})")
    if as_json and done:
        print_json(done)
    elif done and not pin:
        typer.echo("the next sweep may evict them again; `ckpt-quota pin` keeps them, and so does `restore --pin`")
    for failure in failures[1:]:
        typer.echo(f"ckpt-quota: {failure}", err=True)
    if failures:
        raise failures[0]

"""`ckpt-quota restore`: take evictions back."""

from __future__ import annotations

from typing import Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, size_text


def restore(
    decision_ids: Annotated[
        list[str], typer.Argument(metavar="DECISION...", help="Ids of decisions, from `ckpt-quota evictions`.")
    ],
    pin: Annotated[bool, typer.Option("--pin", help="Pin them too, or the next sweep may evict them again.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move evicted checkpoints back from the trash to their places."""
    done: list[dict[str, object]] = []
    with opened(database) as (services, _):
        try:
            for decision_id in decision_ids:
                restored = services.restorer.restore(decision_id, pin=pin)
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
        finally:
            # Where one cannot be restored, those before it are.
            if as_json and done:
                print_json(done)

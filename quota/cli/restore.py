"""`ckpt-quota restore`: take evictions back."""

from __future__ import annotations

from typing import Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, size_text


def restore(
    decision_ids: Annotated[
        list[str], typer.Argument(metavar="DECISION...", help="Ids of decisions, from `ckpt-quota evictions`.")
    ],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move evicted checkpoints back from the trash to their places. Pin them, or the next sweep evicts them again."""
    with opened(database) as (services, _):
        for decision_id in decision_ids:
            restored = services.restorer.restore(decision_id)
            if as_json:
                print_json(
                    {
                        "decision_id": decision_id,
                        "experiment_id": restored.experiment_id,
                        "trial_id": restored.trial_id,
                        "uri": restored.uri,
                        "size_bytes": restored.size_bytes,
                    }
                )
            else:
                typer.echo(f"{restored.uri} is back ({size_text(restored.size_bytes)})")

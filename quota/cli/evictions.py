"""`ckpt-quota evictions`: what went, and why."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from quota.cli.session import DatabaseOption, JsonOption, chosen, opened, print_json
from quota.cli.tables import print_table, size_text


class OutcomeName(Enum):
    """What can have become of a decision."""

    CLAIMED = "claimed"
    TRASHED = "trashed"
    PURGING = "purging"
    FORBIDDEN = "forbidden"
    PURGED = "purged"
    RESTORED = "restored"
    CANCELLED = "cancelled"
    FAILED = "failed"


def evictions(
    experiment_id: Annotated[
        str | None, typer.Option("--experiment", "-e", metavar="ID", help="Only this one.")
    ] = None,
    outcome: Annotated[
        OutcomeName | None,
        typer.Option("--outcome", help="Only those with this outcome."),
    ] = None,
    most: Annotated[int, typer.Option("--limit", "-n", min=1, max=10**9, help="At most this many, newest first.")] = 50,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List decisions to evict, newest first, with the reason and what became of them."""
    with opened(database) as (services, _):
        services.queries.catch_up(chosen(services, None if experiment_id is None else [experiment_id]))
        rows = services.queries.evictions(experiment_id, outcome.value if outcome else None, most)
    if as_json:
        print_json(rows)
        return
    print_table(
        "Evictions, newest first",
        [
            "decided",
            "experiment",
            "trial",
            "reason",
            "level",
            "rank",
            "of",
            "p resume",
            "loss",
            "size",
            "outcome",
            "decision",
        ],
        [
            [
                row["decided_at"][:19] if isinstance(row["decided_at"], str) else row["decided_at"],
                row["experiment_id"],
                row["trial_id"],
                row["reason"],
                row["level"],
                row["rank"],
                row["rung_length"],
                row["resume_probability"],
                row["score"],
                size_text(row["size_bytes"]),
                row["outcome"],
                row["decision_id"],
            ]
            for row in rows
        ],
        "no evictions",
    )

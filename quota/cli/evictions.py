"""`ckpt-quota evictions`: what went, and why."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any

import typer

from quota.cli.session import DatabaseOption, JsonOption, caught_up, chosen, opened, print_json
from quota.cli.tables import print_table, size_text, small, write


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
    trial_id: Annotated[str | None, typer.Option("--trial", "-t", metavar="ID", help="Only this trial's.")] = None,
    sweep_id: Annotated[str | None, typer.Option("--sweep", metavar="ID", help="Only what this sweep decided.")] = None,
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
        caught_up(services, chosen(services, None if experiment_id is None else [experiment_id]), as_json=as_json)
        rows = services.queries.evictions(
            experiment_id, outcome.value if outcome else None, most, trial_id=trial_id, sweep_id=sweep_id
        )
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
            "uri",
            "decision",
        ],
        [_row(row) for row in rows],
        "no evictions",
        places="uri",
        optional=["of", "rank", "level", "p resume", "loss", "reason", "decided", "size", "experiment", "uri"],
    )
    for row in rows:
        if row["error"]:
            write(f"{row['decision_id']} {row['outcome']}: {row['error']}")


def _row(row: Mapping[str, Any]) -> list[object]:
    return [
        row["decided_at"],
        row["experiment_id"],
        # The trial of an orphan stands for nobody.
        None if row["reason"] == "orphan" else row["trial_id"],
        row["reason"],
        row["level"],
        row["rank"],
        row["rung_length"],
        small(row["resume_probability"]),
        small(row["score"]),
        size_text(row["size_bytes"]),
        row["outcome"],
        row["uri"],
        row["decision_id"],
    ]

"""`ckpt-quota explain`: why one checkpoint went, and whether that follows from the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.scopes import amount_text
from quota.cli.session import DatabaseOption, JsonOption, caught_up, opened, print_json
from quota.cli.tables import print_table, shown, size_text, small, write

if TYPE_CHECKING:
    from quota.domain.events import LimitMeasure
    from quota.services.explaining import Explanation

_WHY = {
    "paused": "it was among those to be missed least of what could go",
    "superseded": "its trial had saved a newer one, so that no resume would have loaded it",
    "stopped": "its trial had been stopped",
    "failed": "its trial had failed",
    "completed": "its trial was complete, and not among the best that are kept",
    "orphan": "no trial had ever reported it, and an operator wanted it gone",
}
_NOT_INPUTS = {"decision_id", "trial_id", "sweep_id", "uri", "store_uri", "parameters", "runner_up_uri", "planned_at"}


def explain(
    decision_id: Annotated[str, typer.Argument(metavar="DECISION", help="Its id, from `ckpt-quota evictions`.")],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell why a checkpoint was evicted, what was kept instead and what came of it; and recompute that from the log."""
    with opened(database) as (services, _):
        caught_up(services, as_json=as_json)
        found = services.explainer.explain(decision_id)
    if as_json:
        print_json(_plain(found))
    else:
        _tell(found)
    if any(not one.is_rounding for one in found.mismatches or ()):
        raise typer.Exit(FAILED)


def _tell(found: Explanation) -> None:
    decided, event = found.decided, found.event
    whose = "nobody's" if decided.reason == "orphan" else f"of trial {decided.trial_id} of {event.experiment_id}"
    write(f"{decided.uri}, a checkpoint {whose} ({size_text(decided.size_bytes)}),")
    write(f"was to go: {_WHY[decided.reason]}.")
    write(f"Decided at {shown(event.recorded_at)} UTC by {event.actor}, as event {event.position}.")
    if decided.limit_scope is not None:
        counts = decided.limit_high, decided.limit_low, decided.usage, decided.usage_after
        numbers = called_for(decided.limit_measure, *counts)
        write(f"The limit on {decided.limit_scope} called for it: {numbers}.")
    if decided.parameters is not None and found.planned_at is not None:
        write(f"It was chosen by the policy {decided.parameters.policy}, for {shown(found.planned_at)} UTC.")
    if decided.runner_up_uri is not None:
        write(f"Next would have gone {decided.runner_up_uri}.")
    inputs = [(name, value) for name, value in found.inputs.items() if name not in _NOT_INPUTS and value is not None]
    print_table("\nIts inputs", ["input", "value"], [(name, _text(value)) for name, value in inputs], "")
    if found.rung:
        print_table(
            f"The rung at level {decided.level}, as it was at event {decided.state_position}",
            ["rank", "trial", "metric", "promoted", "checkpoint", ""],
            [
                (one.rank, one.trial_id, one.metric, one.promoted, one.has_checkpoint, _mark(one.trial_id, found))
                for one in found.rung
            ],
            "",
        )
    if found.mismatches is not None:
        print_table(
            "Kept instead, the cheapest first",
            ["trial", "level", "rank", "p resume", "loss", "size", "uri"],
            [
                (
                    one.trial_id,
                    one.level,
                    one.rank,
                    small(one.resume_probability),
                    small(one.score),
                    size_text(one.size_bytes),
                    one.uri,
                )
                for one in found.kept
            ],
            "nothing else of the experiment could have gone",
            places="uri",
        )
    print_table(
        "Since then",
        ["event", "time", "what"],
        [(one.position, one.recorded_at, one.payload.TYPE) for one in found.later],
        "nothing has happened to it, or to its trial, since",
    )
    _tell_of_recomputation(found)


def called_for(
    measure: LimitMeasure | None, high: int | None, low: int | None, usage: int | None, usage_after: int | None
) -> str:
    """Say what a limit's numbers were; of free space `usage` is what was used of the file system, in bytes."""
    measure = measure or "checkpoints"
    most, wanted = (amount_text(measure, one or 0) for one in (high, low))
    counted = "checkpoints" if measure == "checkpoints" else "bytes"
    used, after = (None if one is None else amount_text(counted, one) for one in (usage, usage_after))
    led_to = "" if after is None else f"; the plan led to {after}"
    if measure in {"free_bytes", "free_percent"}:
        free = f"{most} have to stay free, and {wanted} are to be free again"
        return f"{free}; {used} of the file system were used{led_to}"
    return f"{used} were there, and {most} are allowed; {wanted} were to be left{led_to}"


def _tell_of_recomputation(found: Explanation) -> None:
    match found.mismatches:
        case None:
            write("No policy has chosen it, so there is nothing to recompute.")
        case [] | ():
            until = found.decided.state_position
            write(f"Recomputed from events 1 to {until}: all inputs are equal, to the last bit.")
        case mismatches:
            for one in mismatches:
                differs = " (but for the last digits)" if one.is_rounding else ""
                write(f"{one.name} was logged as {_text(one.logged)}, and is {_text(one.recomputed)}{differs}.")


def _mark(trial_id: str, found: Explanation) -> str:
    return "<- this one" if trial_id == found.decided.trial_id else ""


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return repr(value) if isinstance(value, float) else shown(value)


def _plain(found: Explanation) -> Mapping[str, Any]:
    from dataclasses import asdict

    from msgspec import to_builtins

    recomputed = found.mismatches is not None and not found.mismatches
    return {
        "decision_id": found.decided.decision_id,
        "experiment_id": found.event.experiment_id,
        "position": found.event.position,
        "recorded_at": found.event.recorded_at,
        "actor": found.event.actor,
        "inputs": to_builtins(found.inputs),
        "rung": [asdict(one) for one in found.rung],
        "kept": [
            {"trial_id": one.trial_id, "uri": one.uri, "score": one.score, "cost_seconds": one.cost_seconds}
            for one in found.kept
        ],
        "later": [
            {"position": one.position, "type": one.payload.TYPE, "recorded_at": one.recorded_at} for one in found.later
        ],
        "recomputed": None if found.mismatches is None else recomputed,
        "mismatches": [asdict(one) for one in found.mismatches or ()],
    }

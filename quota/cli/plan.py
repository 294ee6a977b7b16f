"""`ckpt-quota plan`: what a sweep would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.session import (
    DatabaseOption,
    ExperimentOption,
    JsonOption,
    PolicyOption,
    SeedOption,
    chosen,
    opened,
    policy_parameters,
    print_json,
    tell_of,
)
from quota.cli.tables import print_table, size_text, small

if TYPE_CHECKING:
    from quota.domain.plan import HeldBack, Plan
    from quota.services.planning import Planned


def plan(
    experiment_ids: ExperimentOption = None,
    policy: PolicyOption = None,
    seed: SeedOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a sweep would evict now, and why. Nothing is written and nothing deleted."""
    with opened(database, policy=policy) as (services, settings):
        planned = services.planner.plan(chosen(services, experiment_ids), policy_parameters(settings, seed))
    show(planned, as_json=as_json)


def show(planned: Planned, *, as_json: bool) -> None:
    """Print plans, and say which experiments are left out. End with an exit code of its own where there are any."""
    if as_json:
        print_json([described(one) for one in planned.plans])
    elif planned.plans or not planned.untrusted:
        _show_plans(planned.plans)
    tell_of(planned.untrusted, "is left out", as_json=as_json)
    if planned.untrusted:
        raise typer.Exit(FAILED)


def _show_plans(plans: Sequence[Plan]) -> None:
    print_table(
        "Limits",
        ["experiment", "checkpoints", "limit", "low", "to evict", "frees", "still above"],
        [
            [
                one.experiment_id,
                one.usage,
                one.limit.high,
                one.limit.low,
                len(one.evictions),
                size_text(sum(candidate.size_bytes for candidate in one.evictions)),
                one.shortfall,
            ]
            for one in plans
        ],
        "no experiment has a limit; set one with: ckpt-quota limit set --checkpoints 10",
        optional=["low", "frees"],
    )
    for one in plans:
        if one.shortfall:
            typer.echo(f"{one.experiment_id} stays {one.shortfall} above its limit: {reasons(one.held_back)}\n")
    evictions = [(one, candidate) for one in plans for candidate in one.evictions]
    if evictions:
        print_table(
            "Evictions, the one to be missed least first",
            ["experiment", "trial", "reason", "level", "rank", "of", "p resume", "loss", "size", "uri"],
            [
                [
                    one.experiment_id,
                    candidate.trial_id,
                    candidate.reason,
                    candidate.level,
                    candidate.rank,
                    candidate.rung_length,
                    small(candidate.resume_probability),
                    small(candidate.score),
                    size_text(candidate.size_bytes),
                    candidate.uri,
                ]
                for one, candidate in evictions
            ],
            "",
            places="uri",
            optional=["of", "reason", "rank", "level", "size", "loss", "experiment", "p resume"],
        )


_REASONS: dict[str, str] = {
    "running": "{} of trials that run",
    "pinned": "{} pinned",
    "out_of_reach": "{} in no store, or in one that cannot be read (see: ckpt-quota store list, ckpt-quota doctor)",
    "in_use": "{} that somebody has written to since it was saved",
    "linked": "{} linked with other checkpoints of their trials",
    "left": "{} that are left to the next sweep",
    "refused": "{} that the store refused to move lately (see: ckpt-quota evictions --outcome failed)",
}


def reasons(held_back: Mapping[HeldBack, int]) -> str:
    """Say why checkpoints cannot be evicted."""
    return "it holds " + ", ".join(_REASONS[reason].format(number) for reason, number in held_back.items())


def described(plan: Plan) -> dict[str, Any]:
    """Return a plan for machines."""
    return {
        "experiment_id": plan.experiment_id,
        "state_position": plan.state_position,
        "limit": {"scope": plan.limit.scope, "high": plan.limit.high, "low": plan.limit.low},
        "usage": plan.usage,
        "shortfall": plan.shortfall,
        "held_back": dict(plan.held_back),
        "evictions": [
            {name: getattr(candidate, name) for name in candidate.__dataclass_fields__} for candidate in plan.evictions
        ],
    }

"""`ckpt-quota plan`: what a sweep would do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.plan_files import require_free, write_plan
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
from quota.cli.tables import counted, print_table, size_text, small

if TYPE_CHECKING:
    from quota.domain.held_back import HeldBack
    from quota.domain.limits import Limit
    from quota.domain.plan import Plan, SharedPlan
    from quota.domain.policies import Candidate
    from quota.services.planning import Planned


def plan(
    experiment_ids: ExperimentOption = None,
    policy: PolicyOption = None,
    seed: SeedOption = None,
    save: Annotated[
        str | None, typer.Option("--save", metavar="FILE", help="Keep it for `ckpt-quota sweep --plan FILE`.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that --save names.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a sweep would evict now, why, and what it costs. Nothing is deleted, or written to the database."""
    from quota.settings import load_settings

    if save is not None:
        require_free(save, force=force)
    elif force:
        message = "it replaces the file that --save names; name one"
        raise typer.BadParameter(message, param_hint="'--force'")
    with opened(database, policy=policy) as (services, settings):
        experiments, parameters = chosen(services, experiment_ids), policy_parameters(settings, seed)
        planned = services.planner.plan(experiments, parameters)
        if save is not None:
            configured = load_settings(database=database).policy
            write_plan(save, services.plan_keeper.saved(planned, experiments, parameters, configured), force=force)
    show(planned, as_json=as_json, saved_as=save)


def show(planned: Planned, *, as_json: bool, saved_as: str | None = None) -> None:
    """Print plans, and say which experiments are left out. End with an exit code of its own where there are any."""
    if as_json:
        print_json(_described(planned))
    elif planned.plans or planned.shared or not planned.untrusted:
        _show_plans(planned)
    if saved_as is not None and not as_json:
        typer.echo(f"saved; once read, apply it with: ckpt-quota sweep --plan {shlex.quote(saved_as)}")
    tell_of(planned.untrusted, "is left out", as_json=as_json)
    if planned.untrusted:
        raise typer.Exit(FAILED)


def _show_plans(planned: Planned) -> None:
    limits: list[tuple[str, Plan | SharedPlan, Sequence[Candidate]]] = [
        (f"experiment:{one.experiment_id}", one, one.evictions) for one in planned.plans
    ]
    limits += [
        (one.limit.scope, one, [candidate for part in one.parts for candidate in part.evictions])
        for one in planned.shared
    ]
    print_table(
        "Limits",
        ["limit on", "measure", "used", "limit", "low", "to evict", "frees", "still above"],
        [
            [
                scope,
                one.limit.measure,
                _amount(one.limit, one.target.usage),
                _amount(one.limit, one.target.high),
                _amount(one.limit, one.target.low),
                len(evictions),
                size_text(sum(candidate.size_bytes for candidate in evictions)),
                _amount(one.limit, one.shortfall),
            ]
            for scope, one, evictions in limits
        ],
        "no experiment has a limit yet; see: ckpt-quota limit list, ckpt-quota experiment list",
        optional=["low", "frees", "measure"],
    )
    for scope, one, _ in limits:
        if one.shortfall:
            typer.echo(f"{scope} stays {_amount(one.limit, one.shortfall)} above its limit: {reasons(one.held_back)}\n")
        if one.purges:
            typer.echo(f"{scope}: {counted(len(one.purges), 'checkpoint')} in the trash will be deleted to make room\n")
    _show_evictions(planned)


def _amount(limit: Limit, amount: int) -> int | str:
    return amount if limit.measure == "checkpoints" else size_text(amount)


def _show_evictions(planned: Planned) -> None:
    from quota.services.plan_totals import plan_totals

    evictions = [(part, candidate) for part in planned.parts for candidate in part.evictions]
    if not evictions:
        return
    totals = plan_totals(planned)
    if len(totals) > 1:
        frees = size_text(sum(one.size_bytes for one in totals))
        print_table(
            f"In all: {counted(len(evictions), 'checkpoint')}, {frees}",
            ["experiment", "reason", "store", "to evict", "frees", "seconds lost"],
            [
                [
                    one.experiment_id,
                    one.reason,
                    one.store_uri,
                    one.evictions,
                    size_text(one.size_bytes),
                    small(one.cost_seconds),
                ]
                for one in totals
            ],
            "",
            places="store",
        )
    print_table(
        "Evictions, the one to be missed least first",
        ["experiment", "trial", "reason", "level", "rank", "of", "p resume", "loss", "seconds lost", "size", "uri"],
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
                small(candidate.cost_seconds),
                size_text(candidate.size_bytes),
                candidate.uri,
            ]
            for one, candidate in evictions
        ],
        "",
        places="uri",
        optional=["of", "rank", "loss", "level", "p resume", "experiment", "size", "reason"],
    )


_REASONS: dict[str, str] = {
    "running": "{} of trials that run",
    "pinned": "{} pinned",
    "best": "{} of the best completed trials (keep_completed)",
    "young": "{} younger than min_age",
    "retained": "{} kept since their experiment finished (finished_retention)",
    "reserved": "{} that a reserve keeps (see: ckpt-quota reserve list)",
    "out_of_reach": "{} in no store (see: ckpt-quota store list)",
    "out_of_order": "{} in stores that are out of order (see: ckpt-quota doctor)",
    "in_use": "{} that somebody has written to since it was saved",
    "linked": "{} linked with other checkpoints of their trials",
    "unapproved": "{} that the saved plan leaves",
    "left": "{} that are left to the next sweep",
    "refused": "{} that the store refused to move lately (see: ckpt-quota evictions --outcome failed)",
}


_NOTHING = "nothing that counts and could be evicted"


def reasons(held_back: Mapping[HeldBack, int]) -> str:
    """Say why checkpoints cannot be evicted."""
    held = ", ".join(_REASONS[reason].format(number) for reason, number in held_back.items())
    return f"it holds {held or _NOTHING}"


def _described(planned: Planned) -> dict[str, Any]:
    """Return what is planned for machines."""
    from quota.services.plan_totals import plan_totals

    own = [
        {"experiment_id": one.experiment_id, "state_position": one.state_position, **_described_limit(one, [one])}
        for one in planned.plans
    ]
    shared = [{"experiment_id": None, **_described_limit(one, one.parts)} for one in planned.shared]
    return {"plans": own + shared, "totals": [asdict(one) for one in plan_totals(planned)]}


def _described_limit(plan: Plan | SharedPlan, parts: Sequence[Plan]) -> dict[str, Any]:
    limit, target = plan.limit, plan.target
    return {
        "limit": {"scope": limit.scope, "measure": limit.measure, "high": target.high, "low": target.low},
        "usage": target.usage,
        "after": plan.after,
        "shortfall": plan.shortfall,
        "held_back": dict(plan.held_back),
        "purges": list(plan.purges),
        "evictions": [one for part in parts for one in _described_evictions(part)],
    }


def _described_evictions(plan: Plan) -> list[dict[str, Any]]:
    return [
        {"experiment_id": plan.experiment_id}
        | {name: getattr(candidate, name) for name in candidate.__dataclass_fields__}
        for candidate in plan.evictions
    ]

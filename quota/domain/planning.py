"""Planning: the limits one after the other, innermost first, each settled with what those before it have left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from quota.domain.choosing import Choice, choose, runner_up
from quota.domain.events import PolicyParameters
from quota.domain.experiment import ExperimentState
from quota.domain.held_back import Obstacle, held_back
from quota.domain.holdings import Holdings, Trash, holdings
from quota.domain.keeping import Rules
from quota.domain.limits import EffectiveLimit, Reserve
from quota.domain.plan import Plan, SharedPlan, Target
from quota.domain.policies import Candidate, candidates
from quota.domain.reserving import Reserved
from quota.domain.scopes import Scope
from quota.domain.space import Space
from quota.domain.standing import Standing


@dataclass(slots=True)
class _Progress:
    """What the plans of limits further in take: checkpoints by experiment, and trash by decision."""

    taken: dict[str, dict[str, Candidate]] = field(default_factory=lambda: defaultdict(dict))
    purged: set[str] = field(default_factory=set)

    def note(self, plan: Plan) -> None:
        self.taken[plan.experiment_id].update((candidate.uri, candidate) for candidate in plan.evictions)
        self.purged.update(plan.purges)

    def left_of(self, held: Holdings, taken: Iterable[Candidate]) -> Holdings:
        """Return what is held, with all that was noted as about to leave."""
        gone = list(taken)
        purged = sum(one.size_bytes for one in held.trash if one.decision_id in self.purged)
        return replace(
            held,
            leaving_checkpoints=held.leaving_checkpoints + sum(candidate.counts for candidate in gone),
            leaving_bytes=held.leaving_bytes + sum(candidate.size_bytes for candidate in gone) + purged,
            trash=tuple(one for one in held.trash if one.decision_id not in self.purged),
        )


@dataclass(frozen=True, slots=True)
class _Settled:
    """How a limit is brought to its low watermark, or as close to it as may be."""

    purges: list[Trash] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    after: int = 0
    reserved: frozenset[str] = frozenset()
    runner_up: Choice | None = None


def plan_experiment(
    state: ExperimentState, limits: Sequence[EffectiveLimit], rules: Rules, obstacle: Callable[[str], Obstacle | None]
) -> list[Plan]:
    """Decide what to evict so that the limits hold that are one experiment's own.

    Each starts above its high watermark and stops at its low one. What one evicts counts for those after it.

    Args:
        state: The experiment, up to its last event.
        limits: Those that hold for it alone; they are on what is used.
        rules: The rules.
        obstacle: What keeps a checkpoint's URI from being evicted, if anything does.

    Returns:
        One plan for each limit, in their order.
    """
    progress, plans = _Progress(), list[Plan]()
    scored: tuple[Candidate, ...] | None = None
    for effective in limits:
        taken = progress.taken[state.experiment_id]
        held = progress.left_of(holdings(state, effective.scope, rules), taken.values())
        target = Target.of(effective.limit, held)
        plan = Plan(
            experiment_id=state.experiment_id,
            state_position=state.position,
            planned_at=rules.now,
            limit=effective.limit,
            target=target,
            after=target.usage - held.leaving(effective.limit.measure),
        )
        if target.is_exceeded_without(held.leaving(effective.limit.measure)):
            scored = tuple(candidates(state, rules)) if scored is None else scored
            pool = [
                Choice(state.experiment_id, one) for one in scored if one.uri not in taken and obstacle(one.uri) is None
            ]
            settled = _settled(effective, target, held, partial(_chosen, pool, effective, rules.parameters))
            settled = replace(settled, runner_up=_next_of(pool, settled, effective, rules.parameters))
            plan = replace(
                plan,
                scored=tuple(one for one in scored if one.counts or effective.limit.measure != "checkpoints"),
                purges=tuple(one.decision_id for one in settled.purges),
                evictions=tuple(choice.candidate for choice in settled.choices),
                after=settled.after,
                runner_up=None if settled.runner_up is None else settled.runner_up.candidate,
            )
        if plan.shortfall:
            gone = {*taken, *(candidate.uri for candidate in plan.evictions)}
            counts = held_back(state, effective.scope, effective.limit.measure, rules, obstacle, gone)
            plan = replace(plan, held_back=counts)
        progress.note(plan)
        plans.append(plan)
    return plans


def plan_shared(
    standings: Sequence[Standing],
    limits: Sequence[EffectiveLimit],
    spaces: Sequence[Space | None],
    reserves: Sequence[Reserve],
    parameters: PolicyParameters,
    own: Iterable[Plan] = (),
) -> list[SharedPlan]:
    """Decide what to evict so that the limits hold that experiments share.

    Args:
        standings: What each experiment brings; `Standing.held` is by `limits`.
        limits: Those limits, innermost first.
        spaces: For each of them on free space, how full its file system is.
        reserves: What teams and experiments keep, whatever these limits ask for.
        parameters: The policy.
        own: What is evicted under the experiments' own limits before.

    Returns:
        One plan for each limit, in their order; none for those on free space where nobody can tell how much that is.
    """
    progress, plans = _Progress(), list[SharedPlan]()
    for plan in own:
        progress.note(plan)
    by_id = {standing.experiment_id: standing for standing in standings}
    for number, (effective, space) in enumerate(zip(limits, spaces, strict=True)):
        held = Holdings()
        pool: list[Choice] = []
        for standing in standings:
            taken = progress.taken[standing.experiment_id]
            within = [one for one in taken.values() if _contains(effective.scope, standing, one)]
            held += progress.left_of(standing.held[number], within)
            pool += [
                Choice(standing.experiment_id, one)
                for one in standing.pool
                if one.uri not in taken and _contains(effective.scope, standing, one)
            ]
        if effective.limit.is_of_free_space and space is None:
            continue
        held += Holdings(leaving_bytes=_leaving_beside(number, limits, spaces, standings, progress))
        target = Target.of(effective.limit, held, space)
        settled = _Settled(after=target.usage - held.leaving(effective.limit.measure))
        if target.is_exceeded_without(held.leaving(effective.limit.measure)):
            guard = Reserved(reserves, standings, progress.taken)
            chooser = partial(_chosen_beside, guard, pool, effective, parameters)
            settled = _settled(effective, target, held, chooser)
            settled = replace(settled, reserved=guard.kept, runner_up=_next_of(pool, settled, effective, parameters))
        parts = _parts(effective, target, settled, by_id, reserves)
        for part in parts:
            progress.note(part)
        plans.append(
            SharedPlan(
                limit=effective.limit, target=target, parts=parts, after=settled.after, reserved=settled.reserved
            )
        )
    return plans


def _leaving_beside(
    number: int,
    limits: Sequence[EffectiveLimit],
    spaces: Sequence[Space | None],
    standings: Sequence[Standing],
    progress: _Progress,
) -> int:
    """Return what limits before take from outside of a limit's scope, and from the same file system all the same."""
    space, scope = spaces[number], limits[number].scope
    same = [
        before
        for before, other in enumerate(spaces[:number])
        if space is not None and other is not None and other.file_system == space.file_system
    ]
    leaving = 0
    for standing in standings if same else ():
        for one in progress.taken[standing.experiment_id].values():
            if not _contains(scope, standing, one) and any(
                _contains(limits[before].scope, standing, one) for before in same
            ):
                leaving += one.size_bytes
        beside = {one.decision_id: one.size_bytes for before in same for one in standing.held[before].trash}
        own = {one.decision_id for one in standing.held[number].trash}
        leaving += sum(size for one, size in beside.items() if one in progress.purged and one not in own)
    return leaving


def _settled(
    effective: EffectiveLimit, target: Target, held: Holdings, chooser: Callable[[int], list[Choice]]
) -> _Settled:
    """Bring a limit down to its low watermark: what lies in the trash goes first, the oldest first."""
    left = target.usage - held.leaving(effective.limit.measure)
    purges: list[Trash] = []
    if effective.limit.measure == "checkpoints":
        choices = chooser(left - target.low)
        return _Settled(choices=choices, after=left - len(choices))
    for trash in held.trash:
        if left <= target.low:
            break
        purges.append(trash)
        left -= trash.size_bytes
    choices = chooser(left - target.low)
    return _Settled(purges, choices, left - sum(choice.candidate.size_bytes for choice in choices))


def _next_of(
    pool: Sequence[Choice], settled: _Settled, effective: EffectiveLimit, parameters: PolicyParameters
) -> Choice | None:
    return runner_up(pool, settled.choices, effective.limit.measure, parameters)


def _chosen(
    pool: Sequence[Choice], effective: EffectiveLimit, parameters: PolicyParameters, needed: int
) -> list[Choice]:
    return choose(pool, needed, effective.limit.measure, parameters)


def _chosen_beside(
    reserved: Reserved, pool: Sequence[Choice], effective: EffectiveLimit, parameters: PolicyParameters, needed: int
) -> list[Choice]:
    """Choose anew without what reserves ask for, until nothing of that is chosen."""
    while True:
        choices = _chosen(pool, effective, parameters, needed)
        asked_for = reserved.asked_for(choices)
        if not asked_for:
            return choices
        pool = [choice for choice in pool if choice not in asked_for]


def _contains(scope: Scope, standing: Standing, candidate: Candidate) -> bool:
    return scope.contains(standing.experiment_id, standing.labels, candidate.uri)


def _parts(
    effective: EffectiveLimit,
    target: Target,
    settled: _Settled,
    standings: Mapping[str, Standing],
    reserves: Sequence[Reserve],
) -> tuple[Plan, ...]:
    """Return what a limit's plan means for each experiment that it takes anything of."""
    evictions: dict[str, list[Candidate]] = defaultdict(list)
    purges: dict[str, list[str]] = defaultdict(list)
    for choice in settled.choices:
        evictions[choice.experiment_id].append(choice.candidate)
    for trash in settled.purges:
        purges[trash.experiment_id].append(trash.decision_id)
    return tuple(
        Plan(
            experiment_id=experiment_id,
            state_position=standings[experiment_id].state_position,
            planned_at=standings[experiment_id].planned_at,
            limit=effective.limit,
            target=target,
            scored=standings[experiment_id].pool,
            purges=tuple(purges[experiment_id]),
            evictions=tuple(evictions[experiment_id]),
            after=settled.after,
            runner_up=None if settled.runner_up is None else settled.runner_up.candidate,
            reserves=tuple(reserves),
        )
        for experiment_id in sorted(evictions.keys() | purges.keys())
    )

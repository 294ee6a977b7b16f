"""What a sweep would do, as a value: a pure function of the state, the limit and the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from quota.domain.deployment import Limit
from quota.domain.events import PolicyParameters
from quota.domain.experiment import ExperimentState
from quota.domain.policies import Candidate, candidates, in_order_of_eviction


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to evict from one experiment, and why.

    Attributes:
        experiment_id: The experiment.
        state_position: Position of its stream that the plan rests on.
        limit: The limit that calls for it.
        usage: What counts under that limit now.
        scored: All that could be evicted, in the order in which it was scored; empty where the limit holds.
        evictions: What to evict, first to last.
    """

    experiment_id: str
    state_position: int
    limit: Limit
    usage: int
    scored: tuple[Candidate, ...] = ()
    evictions: tuple[Candidate, ...] = ()

    @property
    def shortfall(self) -> int:
        """How far above the high watermark the plan would leave the experiment; 0 where the limit will hold."""
        return max(0, self.usage - len(self.evictions) - self.limit.high)


def plan_experiment(
    state: ExperimentState,
    limit: Limit,
    parameters: PolicyParameters,
    now: datetime,
    may_evict: Callable[[str], bool],
) -> Plan:
    """Decide what to evict so that `limit` holds.

    Starts above the high watermark and stops at the low one.

    Args:
        state: The experiment, up to its last event.
        limit: On the number of checkpoints.
        parameters: The policy.
        now: The time, for the time ratio.
        may_evict: Whether a checkpoint's URI lies in a store that can be read; what does not is never evicted.
    """
    usage = state.usage.held_checkpoints
    plan = Plan(experiment_id=state.experiment_id, state_position=state.position, limit=limit, usage=usage)
    if usage <= limit.high:
        return plan
    scored = candidates(state, parameters, now)
    evictions: list[Candidate] = []
    for candidate in in_order_of_eviction(scored, parameters, state.experiment_id):
        if len(evictions) == usage - limit.low:
            break
        if may_evict(candidate.uri):
            evictions.append(candidate)
    return Plan(
        experiment_id=state.experiment_id,
        state_position=state.position,
        limit=limit,
        usage=usage,
        scored=tuple(scored),
        evictions=tuple(evictions),
    )

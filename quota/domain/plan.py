"""What a sweep would do, as a value: a pure function of the state, the limit and the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from quota.domain.deployment import Limit
from quota.domain.events import PolicyParameters
from quota.domain.experiment import ExperimentState, may_retry
from quota.domain.policies import Candidate, candidates, in_order_of_eviction

Obstacle = Literal["out_of_reach", "in_use", "linked"]
"""Why a place cannot be evicted from: it lies in no store or in one that cannot be read, somebody writes to it, or
it is linked with another checkpoint of its trial."""

HeldBack = Literal["running", "pinned", "out_of_reach", "in_use", "linked", "refused", "left"]
"""Why a checkpoint that counts is not evicted: its trial runs, it is pinned, there is an obstacle, its store refused
lately, or it is left to the next sweep."""


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
        held_back: Where the limit will not hold: how many checkpoints are kept all the same, by reason.
    """

    experiment_id: str
    state_position: int
    limit: Limit
    usage: int
    scored: tuple[Candidate, ...] = ()
    evictions: tuple[Candidate, ...] = ()
    held_back: Mapping[HeldBack, int] = field(default_factory=dict)

    @property
    def kept(self) -> dict[HeldBack, int]:
        """How many checkpoints are kept, by reason, where `evictions` is not carried out."""
        left: dict[HeldBack, int] = {"left": len(self.evictions)} if self.evictions else {}
        return left | dict(self.held_back)

    @property
    def shortfall(self) -> int:
        """How far above the high watermark the plan would leave the experiment; 0 where the limit will hold."""
        return max(0, self.usage - len(self.evictions) - self.limit.high)

    def within(self, most: int, most_bytes: int) -> Plan:
        """Return the plan as far as one run may carry it out: it ends with the eviction that reaches a bound.

        Args:
            most: How many evictions are left to the run.
            most_bytes: How many bytes are.
        """
        size_bytes = 0
        for number, candidate in enumerate(self.evictions):
            if number >= most or size_bytes >= most_bytes:
                return replace(self, evictions=self.evictions[:number])
            size_bytes += candidate.size_bytes
        return self


def plan_experiment(
    state: ExperimentState,
    limit: Limit,
    parameters: PolicyParameters,
    now: datetime,
    obstacle: Callable[[str], Obstacle | None],
) -> Plan:
    """Decide what to evict so that `limit` holds.

    Starts above the high watermark and stops at the low one.

    Args:
        state: The experiment, up to its last event.
        limit: On the number of checkpoints.
        parameters: The policy.
        now: The time, for the time ratio.
        obstacle: What keeps a checkpoint's URI from being evicted, if anything does.
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
        if obstacle(candidate.uri) is None:
            evictions.append(candidate)
    is_short = usage - len(evictions) > limit.high
    return Plan(
        experiment_id=state.experiment_id,
        state_position=state.position,
        limit=limit,
        usage=usage,
        scored=tuple(scored),
        evictions=tuple(evictions),
        held_back=_held_back(state, now, obstacle, {candidate.uri for candidate in evictions}) if is_short else {},
    )


def _held_back(
    state: ExperimentState, now: datetime, obstacle: Callable[[str], Obstacle | None], evicted: Container[str]
) -> dict[HeldBack, int]:
    """Count what an experiment holds by why it cannot be evicted, without what is in `evicted`.

    Whatever is a candidate counts as `running`, so ask only where all candidates are evicted.
    """
    counts: Counter[HeldBack] = Counter()
    for trial in state.trials.values():
        if trial.has_ended:
            continue
        checkpoints = (state.checkpoints[uri] for uri in state.trial_uris.get(trial.trial_id, []))
        kept = [one for one in checkpoints if one.state == "stored" and one.uri not in evicted]
        for checkpoint in kept:
            if checkpoint.pinned:
                counts["pinned"] += 1
            elif (met := obstacle(checkpoint.uri)) is not None:
                counts[met] += 1
            elif not may_retry(checkpoint.failures, checkpoint.failed_at, now):
                counts["refused"] += 1
            else:
                counts["running"] += 1
        counts["running"] += trial.status == "running" and not kept
    return {reason: number for reason, number in sorted(counts.items()) if number}

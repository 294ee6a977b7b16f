"""What one experiment brings to the limits that experiments share: small enough to have those of all at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from quota.domain.experiment import ExperimentState
from quota.domain.held_back import Obstacle
from quota.domain.holdings import Holdings, holdings
from quota.domain.keeping import Rules
from quota.domain.limits import EffectiveLimit
from quota.domain.policies import Candidate, candidates, unneeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One experiment's part.

    Attributes:
        experiment_id: The experiment.
        state_position: Position of its stream up to which this reflects it.
        planned_at: The time that its candidates were scored for.
        labels: Its labels.
        held: What it holds within the scope of each shared limit, in their order.
        pool: What could be evicted from it, in the order in which it was scored.
        worth_checkpoints: How many checkpoints it holds that a trial might load, whether they may go now or not.
        worth_bytes: Their sizes.
    """

    experiment_id: str
    state_position: int
    planned_at: datetime
    labels: Mapping[str, str]
    held: tuple[Holdings, ...]
    pool: tuple[Candidate, ...] = ()
    worth_checkpoints: int = 0
    worth_bytes: int = 0


def standing_of(
    state: ExperimentState,
    limits: Sequence[EffectiveLimit],
    rules: Rules,
    obstacle: Callable[[str], Obstacle | None],
    *,
    may_evict: bool = True,
    may_purge: bool = True,
) -> Standing:
    """Return what an experiment brings.

    Args:
        state: The experiment, up to its last event.
        limits: Those that experiments share.
        rules: The rules.
        obstacle: What keeps a checkpoint's URI from being evicted, if anything does.
        may_evict: Whether anything may be evicted from it; else it only counts.
        may_purge: Whether what of it lies in the trash may be deleted to make room; else that only counts.
    """
    scored = candidates(state, rules) if may_evict and state.experiment is not None else []
    every = (holdings(state, effective.scope, rules) for effective in limits)
    # What is kept for a while, or is another sweep's to evict, is as needless as the rest.
    needless = list(unneeded(state))
    return Standing(
        experiment_id=state.experiment_id,
        state_position=state.position,
        planned_at=rules.now,
        labels={} if state.experiment is None else state.experiment.labels,
        held=tuple(held if may_purge else replace(held, trash=()) for held in every),
        pool=tuple(one for one in scored if obstacle(one.uri) is None),
        worth_checkpoints=state.usage.held_checkpoints - sum(reason == "superseded" for _, reason, _ in needless),
        worth_bytes=state.usage.stored_bytes - sum(checkpoint.size_bytes for checkpoint, _, _ in needless),
    )

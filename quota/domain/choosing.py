"""Choosing which candidates go under one limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from quota.domain.covering import cover
from quota.domain.events import LimitMeasure, PolicyParameters
from quota.domain.policies import Candidate, order_key


class Choice(NamedTuple):
    """A candidate of one of the experiments that a limit holds for."""

    experiment_id: str
    candidate: Candidate


def choose(pool: Sequence[Choice], needed: int, measure: LimitMeasure, parameters: PolicyParameters) -> list[Choice]:
    """Choose what goes, first to last, so that as much is given up as is needed and none of it needlessly.

    Under a limit on checkpoints those go that score least. Where bytes are needed, the sum of the scores in seconds is
    kept low (see `cover`); by a policy that scores nothing, they go in its order.

    Args:
        pool: What could go, in the order in which equals go.
        needed: How many checkpoints, or how many bytes.
        measure: Which of the two: `checkpoints`, or any other.
        parameters: The policy.
    """
    if needed <= 0:
        return []
    if measure == "checkpoints":
        counting = [one for one in pool if one.candidate.counts]
        return _in_order(counting, parameters)[:needed]
    # Of equals the first one is chosen.
    with_content = _in_order([one for one in pool if one.candidate.size_bytes > 0], parameters)
    if any(one.candidate.score_seconds is None for one in with_content):
        return _first_of(with_content, needed)
    costs = np.array([one.candidate.score_seconds for one in with_content], dtype=np.float64)
    sizes = [one.candidate.size_bytes for one in with_content]
    return [with_content[index] for index in cover(costs, sizes, needed)]


def runner_up(
    pool: Iterable[Choice], chosen: Iterable[Choice], measure: LimitMeasure, parameters: PolicyParameters
) -> Choice | None:
    """Return what would go next: of what could go and was not chosen, the one to be missed least.

    Args:
        pool: As in `choose`.
        chosen: What that chose.
        measure: As there.
        parameters: The policy.
    """
    gone = {(one.experiment_id, one.candidate.uri) for one in chosen}
    left = (one for one in pool if (one.experiment_id, one.candidate.uri) not in gone)
    counting = (one for one in left if (one.candidate.counts if measure == "checkpoints" else one.candidate.size_bytes))
    return min(counting, key=lambda one: order_key(one.candidate, parameters, one.experiment_id), default=None)


def _in_order(pool: Sequence[Choice], parameters: PolicyParameters) -> list[Choice]:
    return sorted(pool, key=lambda one: order_key(one.candidate, parameters, one.experiment_id))


def _first_of(ordered: Sequence[Choice], needed: int) -> list[Choice]:
    """Take the first ones that suffice, but for those that turn out to be needless, the one to be missed most first."""
    taken: list[Choice] = []
    spare = -needed
    for one in ordered:
        if spare >= 0:
            break
        taken.append(one)
        spare += one.candidate.size_bytes
    kept: list[Choice] = []
    for one in reversed(taken):
        if one.candidate.size_bytes <= spare:
            spare -= one.candidate.size_bytes
        else:
            kept.append(one)
    return kept[::-1]

"""The probability that a paused trial becomes promotable in the time that is left (DESIGN.md, section 6).

A first-passage recursion over the arrivals that rank better: after i of them the trial needs l_i arrivals in all.
The formula is that of Syne Tune's checkpoint-removal callback; two of its faults are not repeated: probabilities are
binomial terms and not differences of cumulative ones, so small ones keep their digits, and a set of candidates that
are all promotable gives ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LEAST_P, _MOST_P = 2.0**-1_000, 1 - 2.0**-53
_MOST_ARRIVALS = np.finfo(np.float64).max

BLOCK = 4_096
"""Candidates computed at a time: keeps the working memory at a few megabytes."""


def resume_probabilities(
    ranks: npt.NDArray[np.int64],
    rung_length: int,
    promotion_quantile: float,
    p_better: float,
    time_ratio: float,
    approx_steps: int,
) -> Floats:
    """Return the probability of becoming promotable for candidates of one rung.

    Args:
        ranks: Shape (n,). Ranks k in the rung, from 1.
        rung_length: Entries of the rung, promoted ones included.
        promotion_quantile: The rung's alpha, in (0, 1).
        p_better: Probability p that an arrival ranks better, in [0, 1].
        time_ratio: beta, time remaining / time elapsed, above 0.
        approx_steps: Most steps of the recursion, at least 1.

    Returns:
        Shape (n,). 1 where k <= alpha * rung_length.
    """
    # With hardly any prior, a mean may round to 0 or 1, of which there are no logarithms.
    p_better = min(max(p_better, _LEAST_P), _MOST_P)
    # The order of these operations is part of the formula: their rounding decides the ceilings.
    missing = ranks - promotion_quantile * rung_length
    probabilities = np.ones(len(ranks))
    (waiting,) = np.nonzero(missing > 0)
    most_arrivals = np.ceil(rung_length * time_ratio)
    for start in range(0, len(waiting), BLOCK):
        block = waiting[start : start + BLOCK]
        steps = np.arange(approx_steps + 1, dtype=np.float64).reshape(-1, 1)
        with np.errstate(over="ignore"):
            arrivals = np.ceil((missing[block].reshape(1, -1) + steps) / promotion_quantile)
        # The smallest of quantiles ask for more arrivals than there are numbers for.
        arrivals = np.minimum(arrivals, _MOST_ARRIVALS)
        probabilities[block] = _first_passage(arrivals, most_arrivals, p_better)
    return probabilities


def _first_passage(arrivals: Floats, most_arrivals: float, p_better: float) -> Floats:
    """Sum the probabilities m[i, i] of getting there with exactly i better arrivals.

    Args:
        arrivals: Shape (steps + 1, n). l_i, the arrivals needed with i better ones.
        most_arrivals: n', the most arrivals that time allows; a step i >= 1 counts only while l_i <= n'.
        p_better: p.

    Returns:
        Shape (n,).
    """
    # The first step counts even beyond n', as in the reference; there is always a second one to follow it.
    reachable = arrivals <= most_arrivals
    last = int(np.max(np.sum(reachable, axis=0))) - 1
    steps = max(min(arrivals.shape[0] - 1, last), 1)
    # Row j of `passing` is m[i, j]: i steps survived, j better arrivals so far.
    passing = binomial_terms(arrivals[0], steps, p_better)
    total: Floats = passing[0].copy()
    for i in range(1, steps + 1):
        gained = binomial_terms(arrivals[i] - arrivals[i - 1], steps, p_better)
        # Only paths that have not got there before go on: those with j >= i better arrivals after step i - 1.
        passing[i - 1] = 0.0
        following = np.zeros_like(passing)
        for more in range(steps + 1 - i):
            if gained[more].any():
                following[i + more :] += passing[i : steps + 1 - more] * gained[more]
        following[:, ~reachable[i]] = 0.0
        passing = following
        total += passing[i]
    return total


def binomial_terms(trials: Floats, most: int, p: float) -> Floats:
    """Return P(Bin(trials, p) = j) for j = 0 … most.

    Args:
        trials: Shape (n,). Whole numbers.
        most: Largest j.
        p: In (0, 1).

    Returns:
        Shape (most + 1, n). In logarithms until the end, so that neither a large n nor a small p underflows early.
    """
    chosen = np.arange(most, dtype=np.float64).reshape(-1, 1)
    left = trials.reshape(1, -1) - chosen
    with np.errstate(divide="ignore"):
        growth = np.log(np.maximum(left, 0.0) / (chosen + 1.0)) + (np.log(p) - np.log1p(-p))
    first = trials.reshape(1, -1) * np.log1p(-p)
    terms: Floats = np.exp(np.vstack((first, first + np.cumsum(growth, axis=0))))
    return terms

"""When a paused trial becomes promotable: the first passage of an urn (DESIGN.md, section 6, "a better probability").

Arrivals come one by one. The first `d` of them are known to be on their way, and each has a chance of its own to rank
better. Those after them are drawn from a Pólya urn, which starts with a share s of better ones and learns from each
arrival: after l arrivals of which j were better than a trial in a rung of n, the next one is better with probability
(s (n + 1) + j) / (n + 1 + l). If arrivals are exchangeable with the entries that are there, s is k / (n + 1) for rank
k. With i better arrivals a trial needs l_i arrivals in all.

All terms are positive and are summed as they are, so that small probabilities keep their digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quota.domain.resume_probability import binomial_terms

Floats = npt.NDArray[np.float64]

BLOCK = 512
"""Candidates computed at a time: keeps the working memory at a few megabytes."""

MOST_ARRIVALS = 1e7
"""No rung lives to see as many, and beyond them logarithms of factorials lose the digits that are wanted here."""

_ROUNDING = 1e-9
_STIRLING = (1 / 12, -1 / 360, 1 / 1_260, -1 / 1_680, 1 / 1_188, -691 / 360_360, 1 / 156)
_SHIFT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Urn:
    """What the arrivals at one rung are like.

    Attributes:
        rung_length: n, entries of the rung, promoted ones included.
        promotion_quantile: The rung's alpha, in (0, 1).
        most_arrivals: How many arrivals there is time for, ten million at most; those that are known are counted on
            whatever this says.
        steps: Most better arrivals that are followed; what needs more of them counts as never.
    """

    rung_length: int
    promotion_quantile: float
    most_arrivals: float
    steps: int

    def horizon(self, known: int) -> float:
        """How many arrivals count where `known` ones are on their way."""
        return max(min(self.most_arrivals, MOST_ARRIVALS), float(known))


@dataclass(frozen=True, slots=True)
class Passages:
    """When candidates of one rung become promotable.

    Attributes:
        arrivals: Shape (steps + 1, n). l_i, rising with i; above the most arrivals where there is no time for them.
        chances: Shape (steps + 1, n). The probability that just the l_i-th arrival makes the candidate promotable.
    """

    arrivals: Floats
    chances: Floats

    @property
    def probability(self) -> Floats:
        """Shape (n,). That it happens at all."""
        total: Floats = np.minimum(self.chances.sum(axis=0), 1.0)
        return total


def passages(ranks: npt.NDArray[np.int64], known: Floats, shares: Floats, urn: Urn) -> Passages:
    """Return when each candidate becomes promotable: at arrival 0 where it is so already.

    A trial is promotable as in Syne Tune: where k - 1 <= alpha (n - 1) in a rung of two entries or more.

    Args:
        ranks: Shape (n,). Ranks k, from 1; of entries that are equal, that of the best.
        known: Shape (d, n). The chance of each arrival that is on its way to rank better than each candidate.
        shares: Shape (n,), in (0, 1). The share of what comes after them that is expected to rank better.
        urn: The rung.
    """
    shape = urn.steps + 1, len(ranks)
    arrivals, chances = np.empty(shape), np.empty(shape)
    for start in range(0, len(ranks), BLOCK):
        block = slice(start, start + BLOCK)
        needed = _needed(ranks[block], len(known), urn)
        arrivals[:, block] = needed
        chances[:, block] = _chances(shares[block], known[:, block], needed, urn)
    return Passages(arrivals, chances)


def _needed(ranks: npt.NDArray[np.int64], known: int, urn: Urn) -> Floats:
    """Return l_i for i = 0 … steps; one above the most arrivals where there is no time for as many."""
    better = np.arange(urn.steps + 1, dtype=np.float64).reshape(-1, 1)
    ahead = (ranks - 1).reshape(1, -1) + better
    with np.errstate(over="ignore"):
        others = np.ceil(ahead / urn.promotion_quantile - _ROUNDING)
    needed = np.maximum(others - (urn.rung_length - 1), 0.0)
    if urn.rung_length == 1:
        # Nobody is promoted from a rung of one.
        needed = np.maximum(needed, 1.0)
    most: Floats = np.minimum(needed, urn.horizon(known) + 1.0)
    return most


def _chances(shares: Floats, known: Floats, needed: Floats, urn: Urn) -> Floats:
    chances = np.zeros_like(needed)
    in_time = needed <= urn.horizon(len(known))
    # Row j of `waiting`: not promotable yet, with j better arrivals so far.
    waiting = np.zeros_like(needed)
    waiting[0] = 1.0
    _absorb(chances, waiting, needed == 0.0)
    for number, chance in enumerate(known, start=1):
        following = waiting * (1.0 - chance)
        following[1:] += waiting[:-1] * chance
        waiting = following
        _absorb(chances, waiting, needed == number)
    return _from_urn(shares, waiting, chances, needed, in_time, len(known), urn)


def _absorb(chances: Floats, waiting: Floats, there: npt.NDArray[np.bool_]) -> None:
    """Take out what has just got there: with i better ones among l_i, and with no fewer, which would be there before.

    Of several l_i that are 0 the first one counts.
    """
    chances[there] += waiting[there]
    waiting[there] = 0.0


def _from_urn(
    shares: Floats,
    waiting: Floats,
    chances: Floats,
    needed: Floats,
    in_time: npt.NDArray[np.bool_],
    known: int,
    urn: Urn,
) -> Floats:
    """Go on with arrivals from the urn.

    Which of them are better in which order does not matter to the probability of a path. So paths are counted as if
    arrivals were better independently with probability q, as in `resume_probability`, and each one is then weighed by
    what the urn gives it / what q does.
    """
    q = min(max(urn.promotion_quantile, 1e-3), 1 - 1e-3)
    a: Floats = shares * (urn.rung_length + 1.0)
    b: Floats = (1.0 - shares) * (urn.rung_length + 1.0)
    better = np.arange(urn.steps + 1, dtype=np.float64).reshape(-1, 1)
    passing = _times_exp(waiting, -_log_weight(a, b, better, np.full_like(needed, known), q))
    reached = np.maximum(needed, known)
    follows = int(np.sum(in_time.any(axis=1)))
    arriving = np.diff(reached[:follows], axis=0, prepend=float(known))
    terms = binomial_terms(arriving.reshape(-1), urn.steps, q).reshape(urn.steps + 1, follows, len(shares))
    weights = _log_weight(a, b, better[:follows], needed[:follows], q)
    for i in range(follows):
        passing = _convolved(passing, terms[:, i], i)
        passing[:, ~in_time[i]] = 0.0
        chances[i] += _times_exp(passing[i], weights[i])
        # Only paths that have not got there go on: those with more than i better ones.
        passing[i] = 0.0
    return chances


def _convolved(passing: Floats, terms: Floats, first: int) -> Floats:
    """Let arrivals more come, of which row j of `terms` says how likely j are better; rows below `first` are empty."""
    rows = len(passing)
    following = np.zeros_like(passing)
    # What more of them than there are rows would give is not followed.
    for more in np.flatnonzero(terms[: rows - first].any(axis=1)).tolist():
        following[first + more :] += passing[first : rows - more] * terms[more]
    return following


def _log_weight(a: Floats, b: Floats, better: Floats, arrivals: Floats, q: float) -> Floats:
    """Return the logarithm of B(a + i, b + l - i) / B(a, b) / (q^i (1 - q)^(l - i)) for i better ones of l arrivals."""
    worse = np.maximum(arrivals - better, 0.0)
    drawn = log_gamma(a + better) - log_gamma(a) + log_gamma(b + worse) - log_gamma(b)
    weight: Floats = (
        drawn - log_gamma(a + b + arrivals) + log_gamma(a + b) - better * math.log(q) - worse * math.log1p(-q)
    )
    return weight


def _times_exp(terms: Floats, logs: Floats) -> Floats:
    """Return terms * exp(logs), where each alone may be too large or too small for a number."""
    with np.errstate(divide="ignore"):
        product: Floats = np.exp(np.log(terms) + logs)
    return product


def log_gamma(x: Floats) -> Floats:
    """Return log Γ(x) for x > 0 to about 1e-14 of its size: Stirling's series, after a shift upwards by recurrence."""
    product = np.ones_like(x)
    for step in range(_SHIFT):
        product = product * (x + step)
    y = x + _SHIFT
    inverse = 1.0 / y
    series = np.zeros_like(y)
    for coefficient in reversed(_STIRLING):
        series = series * inverse * inverse + coefficient
    result: Floats = (y - 0.5) * np.log(y) - y + 0.5 * np.log(2 * np.pi) + series * inverse - np.log(product)
    return result

"""How those arrivals at a rung may rank of which none is on its way yet.

They are not drawn at random from what the rung has seen. Some come from the trials that wait in the rung below, and
those rank low, since the best were promoted before them; in a rung that promotes nearly all they are nearly all that
comes. The others are new trials that did well below. So rung by rung, from the lowest up, it is reckoned what comes in
and what of it goes on: each trial that waits, with its own probability to be promoted, and each arrival, with that of
the rank that it may get.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from quota.domain.climbs import Climb, chances_ahead
from quota.domain.first_passage import Floats, Urn, passages
from quota.domain.next_arrivals import NOTHING_KNOWN, NextArrivals
from quota.domain.rung import Rung

_BINS = 50
_EDGES = np.linspace(0.0, 1.0, _BINS + 1)
_MIDDLES = (_EDGES[1:] + _EDGES[:-1]) / 2
_LEAST_SHARE = 1e-9
_RANKS = 24
"""So many ranks of a rung are followed up exactly; what lies between them is interpolated."""


@dataclass(frozen=True, slots=True, eq=False)
class LaterArrivals:
    """What comes to one rung after the known arrivals.

    Attributes:
        expected: Shape (bins,). How many are expected at each place, from the top of the rung as it is now.
    """

    expected: Floats

    def better_than(self, relative_ranks: Floats) -> Floats:
        """Return the chance of one of them to rank better than each candidate, in (0, 1).

        Args:
            relative_ranks: Shape (n,). k / (n + 1) of the candidates.
        """
        total = self.expected.sum()
        if not total > 0.0:
            return relative_ranks
        shares = np.concatenate(([0.0], np.cumsum(self.expected) / total))
        chances: Floats = np.clip(np.interp(relative_ranks, _EDGES, shares), _LEAST_SHARE, 1.0 - _LEAST_SHARE)
        return chances


ANYWHERE = LaterArrivals(np.zeros(_BINS))
"""Nothing is known of them: they are exchangeable with the entries that are there."""


def urn_at(rung: Rung, time_ratio: float, steps: int) -> Urn:
    """Return what arrives at a rung in the time that is left, if it goes on as it did."""
    return Urn(
        rung_length=len(rung),
        promotion_quantile=rung.promotion_quantile,
        most_arrivals=math.ceil(len(rung) * time_ratio),
        steps=steps,
    )


def later_arrivals(
    rungs: Mapping[int, Rung],
    ways: Mapping[int, Climb],
    known: Mapping[int, NextArrivals],
    time_ratio: float,
    steps: int,
) -> Mapping[int, LaterArrivals]:
    """Return what comes later, by rung level; nothing of rungs without entries.

    Args:
        rungs: The experiment's.
        ways: Its climbs.
        known: Its next arrivals.
        time_ratio: Time remaining / time elapsed.
        steps: Most better arrivals that are followed.
    """
    found: dict[int, LaterArrivals] = {}
    below: int | None = None
    for above, rung in rungs.items():
        if not len(rung):
            continue
        # Some start here, at the lowest rung of their bracket.
        started = len(rung) - len(ways[above].relative_ranks) if below is not None else len(rung)
        expected = np.full(_BINS, started * time_ratio / _BINS)
        if below is not None:
            going_on = _going_on(rungs[below], found[below], known.get(below, NOTHING_KNOWN), time_ratio, steps)
            places, counts = ways[above].gathered(*going_on)
            expected += counts @ _shares(places, ways[above].spread)
        found[above] = LaterArrivals(expected)
        below = above
    return found


def _going_on(
    rung: Rung, later: LaterArrivals, known: NextArrivals, time_ratio: float, steps: int
) -> tuple[Floats, Floats]:
    """Return the relative ranks from which trials may go on from a rung, and how many are expected to, of each."""
    # Whether what waits has its checkpoint does not matter: a tuner that promotes it does so in any case.
    waiting = np.flatnonzero(rung.ranking().waits).astype(np.float64) + 1.0
    incoming = later.expected + _shares(np.array(known.places, dtype=np.float64), known.spread).sum(axis=0)
    ranks, probabilities = _promotions(rung, later, known, time_ratio, steps)
    size = len(rung) + 1.0
    places = np.concatenate((waiting / size, _MIDDLES))
    counts = np.concatenate((np.ones_like(waiting), incoming))
    return places, counts * np.interp(places * size, ranks, probabilities)


def _promotions(
    rung: Rung, later: LaterArrivals, known: NextArrivals, time_ratio: float, steps: int
) -> tuple[Floats, Floats]:
    """Return ranks, from the last one that is promotable on, and the probabilities to become promotable there."""
    last = min(math.floor(rung.promotion_quantile * (len(rung) - 1)) + 1, len(rung))
    offsets = np.unique(np.geomspace(1, len(rung) - last + 1, _RANKS).round().astype(np.int64)) - 1
    ranks = last + offsets
    relative = ranks / (len(rung) + 1.0)
    found = passages(ranks, known.better_than(relative), later.better_than(relative), urn_at(rung, time_ratio, steps))
    return ranks.astype(np.float64), found.probability


def _shares(expected: Floats, spread: float) -> Floats:
    """Return the chances, shape (d, bins), of trials with these expected places to rank within each bin."""
    ahead = chances_ahead(_EDGES, expected, spread)
    ahead[:, 0], ahead[:, -1] = 0.0, 1.0
    return np.diff(ahead, axis=1)

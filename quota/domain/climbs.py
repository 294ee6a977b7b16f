"""How trials of one rung rank in the next one.

Both rungs rank their common trials alike, more or less: so where a trial stands below, among those that came on, says
where it is to be expected above, and how far others ended up from where they had been expected says how sure that is.
The same measurement tells that late arrivals at an upper rung tend to rank low: they were the ones that had to wait for
their promotion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from quota.domain.first_passage import Floats
from quota.domain.ranking import Integers, Ranking
from quota.domain.rung import Rung

PRIOR_SPREAD = 0.25
PRIOR_SIZE = 3.0
"""Before there is much to measure, ranks are taken to differ by a quarter of the rung, as three trials would say."""

_LOGISTIC = math.sqrt(3.0) / math.pi


@dataclass(frozen=True, slots=True)
class Climb:
    """The way from one rung to the next one.

    Attributes:
        relative_ranks: Ascending, shape (c,). k / (n + 1) in the rung below of those trials that are in both.
        spread: Standard deviation of a trial's place above around the expected one, as a fraction of the rung.
    """

    relative_ranks: Floats
    spread: float

    def expected_places(self, relative_ranks: Floats) -> Floats:
        """Return where trials are expected above, as fractions of the rung from its top, in (0, 1).

        Args:
            relative_ranks: Shape (n,). k / (n + 1) in the rung below.
        """
        return self._places(np.searchsorted(self.relative_ranks, relative_ranks))

    def gathered(self, relative_ranks: Floats, counts: Floats) -> tuple[Floats, Floats]:
        """Return where trials are expected above, each place once, and how many are.

        Args:
            relative_ranks: Shape (n,). k / (n + 1) in the rung below.
            counts: Shape (n,). How many trials are of each of these ranks.

        Returns:
            Both of shape (m,), m at most n and c + 1: most of those that wait stand behind all that came up.
        """
        gathered = np.bincount(np.searchsorted(self.relative_ranks, relative_ranks), weights=counts).astype(np.float64)
        ahead = np.flatnonzero(gathered)
        return self._places(ahead), gathered[ahead]

    def _places(self, ahead: Integers) -> Floats:
        places: Floats = (ahead + 0.5) / (len(self.relative_ranks) + 1)
        return places


def climbs(rungs: Mapping[int, Rung]) -> Mapping[int, Climb]:
    """Return the way to each rung with entries from the next one below that has any, by the upper one's level."""
    filled = [level for level, rung in rungs.items() if len(rung)]
    return {above: _measured(rungs[below].ranking(), rungs[above].ranking()) for below, above in pairwise(filled)}


def _measured(below: Ranking, above: Ranking) -> Climb:
    common = sorted(
        (below.ranks[trial_id], place) for trial_id, place in above.ranks.items() if trial_id in below.ranks
    )
    ranks, places = np.array(common, dtype=np.float64).reshape(-1, 2).T
    expected = (np.arange(len(common)) + 0.5) / max(len(common), 1)
    moved = expected - (places - 0.5) / len(above)
    variance = (math.fsum((moved * moved).tolist()) + PRIOR_SIZE * PRIOR_SPREAD**2) / (len(moved) + PRIOR_SIZE)
    return Climb(ranks / (len(below) + 1.0), math.sqrt(variance))


def chances_ahead(places: Floats, expected: Floats, spread: float) -> Floats:
    """Return the chance of each of d trials to rank ahead of each of n places of a rung.

    Args:
        places: Shape (n,). As fractions of the rung from its top.
        expected: Shape (d,). Where the trials are expected, likewise.
        spread: Standard deviation around it.

    Returns:
        Shape (d, n). By a logistic distribution.
    """
    chances: Floats = 1.0 / (1.0 + np.exp((expected.reshape(-1, 1) - places.reshape(1, -1)) / (spread * _LOGISTIC)))
    return chances

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
        places: Floats = (np.searchsorted(self.relative_ranks, relative_ranks) + 0.5) / (len(self.relative_ranks) + 1)
        return places


def climbs(rungs: Mapping[int, Rung]) -> Mapping[int, Climb]:
    """Return the ways to each rung that trials have come up to, by its level."""
    return {above: _measured(rungs[below], rungs[above]) for below, above in pairwise(rungs) if len(rungs[above])}


def _measured(below: Rung, above: Rung) -> Climb:
    places_above = {trial_id: place for place, trial_id in enumerate(above.in_order(), start=1)}
    ranks_below = enumerate(below.in_order(), start=1)
    common = [(rank, trial_id) for rank, trial_id in ranks_below if trial_id in places_above]
    moved = [
        (place - 0.5) / len(common) - (places_above[trial_id] - 0.5) / len(above)
        for place, (_, trial_id) in enumerate(common, start=1)
    ]
    variance = (math.fsum(one * one for one in moved) + PRIOR_SIZE * PRIOR_SPREAD**2) / (len(moved) + PRIOR_SIZE)
    ranks = np.array([rank for rank, _ in common], dtype=np.float64)
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

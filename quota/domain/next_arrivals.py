"""What is known of the trials that are on their way to a rung: how they may rank there.

A trial that was resumed from the rung below arrives at a rung next. Both rungs rank their common trials alike, more or
less: so where the trial stands below, among those that came on before it, says where it is to be expected above, and
how far others ended up from where they had been expected says how sure that is. The same measurement tells that late
arrivals at an upper rung tend to rank low: they were the ones that had to wait for their promotion.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from quota.domain.experiment import ExperimentState
from quota.domain.first_passage import Floats
from quota.domain.rung import Rung

PRIOR_SPREAD = 0.25
PRIOR_SIZE = 3.0
"""Before there is much to measure, ranks are taken to differ by a quarter of the rung, as three trials would say."""

_LOGISTIC = math.sqrt(3.0) / math.pi


@dataclass(frozen=True, slots=True)
class NextArrivals:
    """The known arrivals at one rung.

    Attributes:
        places: Where each is expected, as a fraction of the rung from its top, in (0, 1).
        spread: Standard deviation around it, as a fraction of the rung.
    """

    places: tuple[float, ...] = ()
    spread: float = PRIOR_SPREAD

    def better_than(self, relative_ranks: Floats) -> Floats:
        """Return the chance of each arrival to rank better than each candidate.

        Args:
            relative_ranks: Shape (n,). k / (n + 1) of the candidates.

        Returns:
            Shape (d, n). By a logistic distribution around the expected place.
        """
        places = np.array(self.places, dtype=np.float64).reshape(-1, 1)
        chances: Floats = 1.0 / (1.0 + np.exp((places - relative_ranks.reshape(1, -1)) / (self.spread * _LOGISTIC)))
        return chances


NOTHING_KNOWN = NextArrivals()


def next_arrivals(state: ExperimentState, most: int) -> Mapping[int, NextArrivals]:
    """Return what is known of the next arrivals, by rung level; only rungs that some trial is on its way to.

    Args:
        state: The experiment.
        most: How many arrivals a rung are enough; those that have come farthest count.
    """
    on_their_way: dict[int, list[tuple[int, str]]] = {}
    for trial in state.trials.values():
        if trial.status == "running" and trial.level is not None:
            on_their_way.setdefault(trial.level, []).append((-(trial.resource or 0), trial.trial_id))
    found = {}
    for below, above in pairwise(state.rungs):
        trial_ids = [trial_id for _, trial_id in sorted(on_their_way.get(below, ()))[:most]]
        if trial_ids and len(state.rungs[above]):
            found[above] = _expected(state.rungs[below], state.rungs[above], trial_ids)
    return found


def _expected(below: Rung, above: Rung, trial_ids: Sequence[str]) -> NextArrivals:
    places_above = {trial_id: place for place, trial_id in enumerate(above.in_order(), start=1)}
    common = sorted((below.entries[one].key, one) for one in places_above if one in below.entries)
    keys = [key for key, _ in common]
    moved = [
        (place - 0.5) / len(common) - (places_above[trial_id] - 0.5) / len(above)
        for place, (_, trial_id) in enumerate(common, start=1)
    ]
    variance = (math.fsum(one * one for one in moved) + PRIOR_SIZE * PRIOR_SPREAD**2) / (len(moved) + PRIOR_SIZE)
    return NextArrivals(
        tuple((bisect_left(keys, below.entries[one].key) + 0.5) / (len(keys) + 1) for one in trial_ids),
        math.sqrt(variance),
    )

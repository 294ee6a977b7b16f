"""What is known of the trials that are on their way to a rung: how they may rank there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from quota.domain.climbs import PRIOR_SPREAD, Climb, chances_ahead
from quota.domain.experiment import ExperimentState
from quota.domain.first_passage import Floats


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
            Shape (d, n).
        """
        return chances_ahead(relative_ranks, np.array(self.places, dtype=np.float64), self.spread)


NOTHING_KNOWN = NextArrivals()


def next_arrivals(state: ExperimentState, ways: Mapping[int, Climb], most: int) -> Mapping[int, NextArrivals]:
    """Return what is known of the next arrivals, by rung level; only rungs that some trial is on its way to.

    Args:
        state: The experiment.
        ways: Its climbs.
        most: How many arrivals a rung are enough; those that have come farthest count.
    """
    on_their_way: dict[int, list[tuple[int, str]]] = {}
    for trial in state.trials.values():
        if trial.status == "running" and trial.level is not None:
            on_their_way.setdefault(trial.level, []).append((-(trial.resource or 0), trial.trial_id))
    found = {}
    for level, above in pairwise(state.rungs):
        below = state.rungs[level]
        trial_ids = [trial_id for _, trial_id in sorted(on_their_way.get(level, ()))[:most]]
        if trial_ids and above in ways:
            ranks = np.array([below.ranking().ranks[one] for one in trial_ids], dtype=np.float64)
            places = ways[above].expected_places(ranks / (len(below) + 1.0))
            found[above] = NextArrivals(tuple(places.tolist()), ways[above].spread)
    return found

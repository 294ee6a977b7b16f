"""One trial's place in a rung."""

from __future__ import annotations

import math
from dataclasses import dataclass

OrderKey = tuple[float, int, str]


@dataclass(slots=True)
class RungEntry:
    """One trial's place in a rung.

    Attributes:
        trial_id: The trial.
        metric: As reported when it was paused there.
        rank_value: What it is ranked by: smaller is better; infinite where the metric is not finite.
        placed_position: Position of the event that placed it: the pause, or later the promotion, since a promoted
            entry moves behind its equals.
        changed_position: Position of the event that last changed any of this.
        promoted: Whether it has been resumed from here.
        waits: Whether it is paused here, and so may still be promoted.
        has_checkpoint: Whether it is paused here with a stored checkpoint, and so may be evicted and is compared
            with each new report.
    """

    trial_id: str
    metric: float
    rank_value: float
    placed_position: int
    changed_position: int
    promoted: bool = False
    waits: bool = False
    has_checkpoint: bool = False

    @property
    def key(self) -> OrderKey:
        """By this it is sorted; ties in order of arrival."""
        return (self.rank_value, self.placed_position, self.trial_id)


def rank_value(mode: str, metric: float) -> float:
    """Return what a metric is ranked by: smaller is better, and what is not finite ranks last."""
    if not math.isfinite(metric):
        return math.inf
    return -metric if mode == "max" else metric

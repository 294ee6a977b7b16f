"""How long a unit of an experiment's resource takes: counts of what reports say, and their median."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_STEPS = 16
"""How many bins there are between a time and its double: what a bin stands for is at most 3.2 % off."""


def bin_of(seconds: float) -> int:
    """Return the bin that a time falls into. No logarithm is taken, so that it is the same on every machine."""
    mantissa, exponent = math.frexp(seconds)
    return exponent * _STEPS + int((2 * mantissa - 1) * _STEPS)


def seconds_of(number: int) -> float:
    """Return the time that a bin stands for: its middle."""
    exponent, step = divmod(number, _STEPS)
    return math.ldexp(1 + (step + 0.5) / _STEPS, exponent - 1)


@dataclass(slots=True)
class Pace:
    """Counts of the seconds that a unit of resource took, report by report.

    A median is robust: a trial that was frozen, or a worker that is ten times as slow, moves it hardly at all. Kept as
    counts, a report costs O(1), and a state is no larger for a million of them.

    Attributes:
        reports: How many reports fall into each bin.
    """

    reports: dict[int, int] = field(default_factory=dict)

    def add(self, seconds: float) -> int:
        """Count a report, and return its bin."""
        number = bin_of(seconds)
        self.reports[number] = self.reports.get(number, 0) + 1
        return number

    @property
    def median_seconds(self) -> float | None:
        """The median, the lower one of two; None before the first report."""
        left = (sum(self.reports.values()) + 1) // 2
        for number in sorted(self.reports):
            left -= self.reports[number]
            if left <= 0:
                return seconds_of(number)
        return None


NO_PACE_SECONDS = 1.0
"""What a unit of resource is taken for where no experiment has reported any: resources are compared then."""


def usual_seconds(paces: list[float]) -> float:
    """Return what to go by for an experiment that has not reported yet: the median of the others, the lower of two.

    Args:
        paces: The medians of those that have.
    """
    return sorted(paces)[(len(paces) - 1) // 2] if paces else NO_PACE_SECONDS

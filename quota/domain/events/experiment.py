"""Events about an experiment as a whole."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar, Literal

import msgspec

from quota.domain.events.base import Count, Event, Quantile, id_refusal
from quota.domain.refusal import Refusal, RefusalKind


class ExperimentRegistered(Event, frozen=True, kw_only=True):
    """An experiment begins; always the first event of its stream.

    Attributes:
        mode: Whether smaller (`min`) or greater (`max`) metrics are better.
        rung_levels: Resource levels at which trials are paused, rising, all below `max_resource`.
        promotion_quantiles: For each rung, the fraction of its trials that may be promoted; in (0, 1).
        max_resource: The resource at which a trial is complete.
        max_wallclock_seconds: Length of the experiment; None where it is open-ended.
        labels: What it is labelled with, e.g. `{"team": "vision"}`.
    """

    TYPE: ClassVar[str] = "experiment_registered"

    mode: Literal["min", "max"]
    rung_levels: tuple[Count, ...]
    promotion_quantiles: tuple[Quantile, ...]
    max_resource: Count
    max_wallclock_seconds: float | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)

    def refusal(self) -> Refusal | None:
        """Check how levels, quantiles and times fit together, and the labels."""
        return self._rungs_refusal() or self._labels_refusal()

    def _rungs_refusal(self) -> Refusal | None:
        number = RefusalKind.NUMBER
        levels, quantiles, seconds = self.rung_levels, self.promotion_quantiles, self.max_wallclock_seconds
        if not levels:
            return Refusal(number, "rung_levels", list(levels), "at least one rung level is needed")
        if any(lower >= upper for lower, upper in pairwise(levels)):
            return Refusal(number, "rung_levels", list(levels), "rung levels must rise, each one named once")
        if levels[-1] >= self.max_resource:
            reason = f"every rung level must be below max_resource, which is {self.max_resource}"
            return Refusal(number, "rung_levels", list(levels), reason)
        if len(quantiles) != len(levels):
            reason = f"one quantile a rung level is needed: {len(levels)}"
            return Refusal(number, "promotion_quantiles", list(quantiles), reason)
        if any(not 0 < quantile < 1 for quantile in quantiles):
            reason = "each quantile must lie between 0 and 1, both excluded"
            return Refusal(number, "promotion_quantiles", list(quantiles), reason)
        if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
            reason = "must be a finite number of seconds above 0, or null for an open end"
            return Refusal(number, "max_wallclock_seconds", seconds, reason)
        return None

    def _labels_refusal(self) -> Refusal | None:
        for name, value in self.labels.items():
            refusal = id_refusal(f"labels.{name}", name) or id_refusal(f"labels.{name}", value)
            if refusal is not None:
                return refusal
        return None


class ExperimentFinished(Event, frozen=True, kw_only=True):
    """An experiment has ended: trials that still run count as stopped, and none will be resumed."""

    TYPE: ClassVar[str] = "experiment_finished"

"""The policy `expected-cost`: what an eviction is expected to cost, for each arrival that the place is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quota.domain.first_passage import Floats, Passages


def place_values(passages: Passages, resource: NDArray[np.int64]) -> Floats:
    """Return what keeping each candidate is worth, in units of resource an arrival at its rung.

    A place that is kept for long is a place that others lack. So of all the arrivals l that one might wait for, the
    one that pays best counts: the resource that is saved by then / the time until the trial is promotable or l have
    come, and the one arrival more until it is resumed. That is the index of Gittins for a stopping problem; it is
    counted in arrivals, since what happens at a rung happens then.

    Args:
        passages: When they become promotable.
        resource: Shape (n,). What is lost of each where its checkpoint is missing.

    Returns:
        Shape (n,). `resource` where a trial is promotable already.
    """
    by_then = np.minimum(np.cumsum(passages.chances, axis=0), 1.0)
    waited = np.cumsum(passages.chances * passages.arrivals, axis=0) + (1.0 - by_then) * passages.arrivals
    best: Floats = resource * np.max(by_then / (1.0 + waited), axis=0)
    return best

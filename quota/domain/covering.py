"""Choosing what to give up so that enough is freed at the least cost: the covering form of the knapsack problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64] | NDArray[np.object_]
"""Python's own numbers where sums may not fit into 64 bits."""

_LARGEST = 2**63 - 1

_MOST_ENUMERATED = 12
"""Up to so many items all subsets are compared."""

_PREFIXES_COMPLETED = 256
"""How many of the longest prefixes of the greedy order are completed with one more item each."""


def cover(costs: Floats, sizes: Sequence[int], needed: int) -> list[int]:
    """Choose items whose sizes add up to what is needed, at a total cost that is least, or close to that.

    Exact for up to 12 items. For more, items are taken by rising cost per size; then the longest prefixes of that order
    are each completed by the cheapest single item that suffices, and the best of them is kept. That costs at most one
    item more than the linear relaxation, which takes the same prefix and a part of the next item.

    What is chosen is minimal: without any one of them it would not suffice.

    Args:
        costs: What each costs; shape (n,), finite and not negative.
        sizes: What each frees, above 0; n of them.
        needed: How much is to be freed.

    Returns:
        Indices of what is chosen, by rising cost per size, equals in the order given; all that there is, where that
        does not suffice; none where nothing is needed.
    """
    if needed <= 0:
        return []
    total = sum(sizes)
    order = np.lexsort((np.arange(len(costs)), costs / np.array(sizes, dtype=np.float64)))
    if total <= needed:
        return [int(index) for index in order]
    exact: Integers = np.array(sizes, dtype=np.int64) if total <= _LARGEST else np.array(sizes, dtype=np.object_)
    ordered = exact[order]
    choose = _best_subset if len(costs) <= _MOST_ENUMERATED else _best_completion
    chosen = choose(costs[order], ordered, needed)
    return [int(order[place]) for place in _without_needless(chosen, costs[order], ordered, needed)]


def _best_subset(costs: Floats, sizes: Integers, needed: int) -> list[int]:
    """Compare all subsets: by cost, then by how many they are, then by which."""
    members = (np.arange(1 << len(costs))[:, None] >> np.arange(len(costs))) & 1
    suffices = np.flatnonzero(members @ sizes >= needed)
    members = members[suffices]
    best = np.lexsort((suffices, members.sum(axis=1), members @ costs))[0]
    return [int(index) for index in np.flatnonzero(members[best])]


def _best_completion(costs: Floats, sizes: Integers, needed: int) -> list[int]:
    """Take a prefix and one item more, so that the sum of their costs is least."""
    freed = np.concatenate(([0], np.cumsum(sizes)))
    spent = np.concatenate(([0.0], np.cumsum(costs)))
    enough = int(np.searchsorted(freed, needed))
    best_cost, best = float(spent[enough]), list(range(enough))
    for length in range(enough - 1, max(-1, enough - 1 - _PREFIXES_COMPLETED), -1):
        fitting = np.flatnonzero(sizes[length:] >= needed - freed[length]) + length
        if len(fitting) == 0:
            continue
        last = int(fitting[np.argmin(costs[fitting])])
        cost = float(spent[length] + costs[last])
        if cost < best_cost:
            best_cost, best = cost, [*range(length), last]
    return best


def _without_needless(chosen: list[int], costs: Floats, sizes: Integers, needed: int) -> list[int]:
    """Leave out what is not needed, the dearest first."""
    spare = int(sizes[chosen].sum()) - needed
    kept = set(chosen)
    for place in sorted(chosen, key=lambda one: (-costs[one], -one)):
        if sizes[place] <= spare:
            kept.discard(place)
            spare -= int(sizes[place])
    return sorted(kept)

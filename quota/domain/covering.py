"""Choosing what to give up so that enough is freed at the least cost: the covering form of the knapsack problem."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

_MOST_ENUMERATED = 12
"""Up to so many items all subsets are compared."""

_PREFIXES_COMPLETED = 256
"""How many of the longest prefixes of the greedy order are completed with one more item each."""


def cover(costs: Floats, sizes: Integers, needed: int) -> list[int]:
    """Choose items whose sizes add up to what is needed, at a total cost that is least, or close to that.

    Exact for up to 12 items. For more, items are taken by rising cost per size; then the longest prefixes of that order
    are each completed by the cheapest single item that suffices, and the best of them is kept. That costs at most one
    item more than the linear relaxation, which takes the same prefix and a part of the next item.

    What is chosen is minimal: without any one of them it would not suffice.

    Args:
        costs: What each costs; shape (n,), finite and not negative.
        sizes: What each frees; shape (n,), above 0.
        needed: How much is to be freed.

    Returns:
        Indices of what is chosen, by rising cost per size, equals in the order given; all that there is, where that
        does not suffice; none where nothing is needed.
    """
    order = np.lexsort((np.arange(len(costs)), costs / sizes))
    if needed <= 0:
        return []
    if int(sizes.sum()) <= needed:
        return [int(index) for index in order]
    if len(costs) <= _MOST_ENUMERATED:
        chosen = _best_subset(costs[order], sizes[order], needed)
    else:
        chosen = _best_completion(costs[order], sizes[order], needed)
    return [int(order[place]) for place in _without_needless(chosen, costs[order], sizes[order], needed)]


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

"""What is given up frees enough, none of it needlessly, and costs little more than the best choice would."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from quota.domain.covering import Floats, cover

if TYPE_CHECKING:
    from numpy.typing import NDArray

ITEMS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), min_size=1, max_size=10)


def arrays(items: list[tuple[int, int]]) -> tuple[Floats, NDArray[np.int64]]:
    return np.array([cost for cost, _ in items], dtype=float), np.array([size for _, size in items], dtype=np.int64)


@given(ITEMS, st.integers(-1, 320))
def test_few_items_are_chosen_at_the_least_cost(items: list[tuple[int, int]], needed: int) -> None:
    costs, sizes = arrays(items)
    chosen = cover(costs, sizes.tolist(), needed)
    if sizes.sum() < needed:
        assert sorted(chosen) == list(range(len(items)))
        return
    subsets = [np.array(picks, dtype=bool) for picks in product([False, True], repeat=len(items))]
    assert costs[chosen].sum() == min(costs[picks].sum() for picks in subsets if sizes[picks].sum() >= needed)
    assert all(sizes[chosen].sum() - sizes[one] < needed for one in chosen)


def drawn(count: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    costs = np.where(random.random(count) < 0.2, 0.0, random.exponential(100, count))
    return costs, random.lognormal(18, 1.5, count).astype(np.int64) + 1


def least_by_relaxation(costs: Floats, sizes: NDArray[np.int64], needed: int) -> float:
    """Return what it would cost if parts of items could be given up: no choice costs less."""
    solved = linprog(costs, A_ub=-sizes[None, :] / needed, b_ub=[-1.0], bounds=(0, 1), method="highs")
    assert solved.fun is not None
    return float(solved.fun)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_many_items_cost_at_most_two_per_cent_more_than_the_bound(seed: int, share: float) -> None:
    costs, sizes = drawn(10_000, seed)
    needed = int(sizes.sum() * share)
    chosen = cover(costs, sizes.tolist(), needed)
    freed = sizes[chosen].sum()
    assert freed >= needed
    assert freed - sizes[chosen].min() < needed
    assert costs[chosen].sum() <= 1.02 * least_by_relaxation(costs, sizes, needed) + 1e-9


def test_a_large_dear_item_is_left_where_a_small_one_suffices() -> None:
    costs = np.array([1.0] * 20 + [5.0, 3.0])
    sizes = np.array([10] * 20 + [100, 7], dtype=np.int64)
    chosen = cover(costs, sizes.tolist(), 7)
    assert costs[chosen].sum() == 1.0
    # Twenty small ones and the large one are needed, and the odd one is not.
    assert sorted(cover(costs, sizes.tolist(), 300)) == list(range(21))


def test_some_items_cost_little_more_than_the_best_choice() -> None:
    excess = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        costs, sizes = random.exponential(10, 16), random.integers(1, 100, 16)
        needed = int(sizes.sum() * random.uniform(0.05, 0.95))
        subsets = (np.arange(1 << 16)[:, None] >> np.arange(16)) & 1
        best = (subsets @ costs)[subsets @ sizes >= needed].min()
        excess.append(costs[cover(costs, sizes.tolist(), needed)].sum() / best - 1)
    assert np.mean(excess) <= 0.05
    assert max(excess) <= 1.0


def test_the_cheapest_for_its_size_goes_first_and_equals_in_order() -> None:
    costs, sizes = np.array([4.0, 0.0, 1.0, 0.0]), np.array([2, 2, 2, 2], dtype=np.int64)
    assert cover(costs, sizes.tolist(), 8) == [1, 3, 2, 0]
    assert cover(costs, sizes.tolist(), 4) == [1, 3]
    assert cover(costs, sizes.tolist(), 2) == [1]


@pytest.mark.parametrize("count", [4, 40])
def test_sizes_may_add_up_to_more_than_a_machine_word_holds(count: int) -> None:
    costs, sizes = np.arange(count, dtype=float), [2**62] * count
    assert cover(costs, sizes, 3 * 2**62 - 1) == [0, 1, 2]
    assert cover(costs, sizes, count * 2**62) == list(range(count))

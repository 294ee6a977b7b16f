"""The first-passage probability against a slow one, against SciPy's binomial terms, and against enumeration."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quota.domain import resume_probability
from quota.domain.resume_probability import BLOCK, resume_probabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STEPS = 25

levels = st.integers(1, 400)
quantiles = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 2 / 3, 0.9]) | st.floats(0.02, 0.98)
chances = st.floats(0.001, 0.999)
ratios = st.floats(1e-4, 50)
some_steps = st.integers(1, 30)


def counted_arrivals(rank: int, length: int, quantile: float, ratio: float, steps: int) -> list[int]:
    """l_0 and those l_i that time allows, in double precision as DESIGN.md, section 6, writes them."""
    missing = rank - quantile * length
    arrivals = [math.ceil((missing + i) / quantile) for i in range(steps + 1)]
    most = math.ceil(length * ratio)
    return arrivals[:1] + list(itertools.takewhile(lambda needed: needed <= most, arrivals[1:]))


def by_recursion(arrivals: Sequence[int], term: Callable[[int, int], Fraction]) -> Fraction:
    """Sum m[i, i], as the formula says, with term(n, j) = P(Bin(n, p) = j)."""
    last = len(arrivals) - 1
    passing = [term(arrivals[0], j) for j in range(last + 1)]
    total = passing[0]
    for i in range(1, last + 1):
        gained = [term(arrivals[i] - arrivals[i - 1], j) for j in range(last + 1)]
        passing = [
            sum((passing[s] * gained[j - s] for s in range(i, j + 1)), Fraction(0)) if j >= i else Fraction(0)
            for j in range(last + 1)
        ]
        total += passing[i]
    return total


def exact_term(p: Fraction) -> Callable[[int, int], Fraction]:
    return lambda n, j: Fraction(math.comb(n, j)) * p**j * (1 - p) ** (n - j) if j <= n else Fraction(0)


def by_enumeration(arrivals: Sequence[int], p: Fraction) -> Fraction:
    """Weigh every sequence of arrivals in which, at some l_i, at most i of them were better."""
    total = Fraction(0)
    for sequence in itertools.product((0, 1), repeat=arrivals[-1]):
        if any(sum(sequence[:needed]) <= i for i, needed in enumerate(arrivals)):
            better = sum(sequence)
            total += p**better * (1 - p) ** (len(sequence) - better)
    return total


def ours(ranks: Sequence[int], length: int, quantile: float, p: float, ratio: float, steps: int) -> list[float]:
    found: list[float] = resume_probabilities(
        np.array(ranks, dtype=np.int64), length, quantile, p, ratio, steps
    ).tolist()
    return found


@pytest.mark.parametrize("quantile", [0.5, 1 / 3, 0.25])
@pytest.mark.parametrize("chance", [Fraction(1, 8), Fraction(1, 2), Fraction(7, 8)])
def test_is_the_share_of_all_futures_in_which_the_trial_gets_there(quantile: float, chance: Fraction) -> None:
    compared = 0
    for length, ratio in itertools.product(range(1, 7), (0.4, 1.0, 2.5)):
        for rank in range(1, length + 1):
            arrivals = counted_arrivals(rank, length, quantile, ratio, STEPS)
            if rank <= quantile * length or arrivals[-1] > 12:
                continue
            [found] = ours([rank], length, quantile, float(chance), ratio, STEPS)
            assert by_recursion(arrivals, exact_term(chance)) == by_enumeration(arrivals, chance)
            assert found == pytest.approx(float(by_enumeration(arrivals, chance)), rel=1e-12)
            compared += 1
    assert compared >= 10


@given(length=levels, quantile=quantiles, p=chances, ratio=ratios, steps=some_steps, data=st.data())
def test_agrees_with_the_formula_over_scipys_binomial_terms(
    length: int, quantile: float, p: float, ratio: float, steps: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, length))
    [found] = ours([rank], length, quantile, p, ratio, steps)
    if rank - quantile * length <= 0:
        assert found == 1.0
        return
    arrivals = counted_arrivals(rank, length, quantile, ratio, steps)
    expected = by_recursion(arrivals, lambda n, j: float(stats.binom.pmf(j, n, p)))  # type: ignore[arg-type, return-value]
    assert found == pytest.approx(float(expected), rel=1e-9, abs=1e-300)


@given(length=levels, quantile=quantiles, p=chances, ratio=ratios, steps=some_steps)
def test_is_a_probability_that_never_rises_with_the_rank(
    length: int, quantile: float, p: float, ratio: float, steps: int
) -> None:
    found = ours(range(1, length + 1), length, quantile, p, ratio, steps)
    assert all(0 <= probability <= 1 + 1e-12 for probability in found)
    assert all(worse <= better * (1 + 1e-9) for better, worse in itertools.pairwise(found))


@pytest.mark.parametrize(("length", "quantile"), [(1, 0.99), (9, 1 / 3), (100, 0.5)])
def test_is_one_where_all_are_promotable(length: int, quantile: float) -> None:
    promotable = [rank for rank in range(1, length + 1) if rank <= quantile * length]
    assert ours(promotable, length, quantile, 0.3, 1.0, STEPS) == [1.0] * len(promotable)


def test_of_none_is_none() -> None:
    assert ours([], 5, 0.5, 0.3, 1.0, STEPS) == []


@pytest.mark.parametrize(
    ("rank", "quantile", "p", "ratio", "magnitude"),
    [
        # One step only: nobody better among l_0 = 200 arrivals.
        (200, 0.5, 0.9, 0.9, -200),
        (200, 0.5, 0.9, 1.2, -191),
        (60, 1 / 3, 0.95, 2.5, -156),
        (30, 0.25, 0.9, 5.0, -90),
        (20, 0.5, 0.8, 2.0, -12),
    ],
)
def test_tiny_ones_keep_their_digits(rank: int, quantile: float, p: float, ratio: float, magnitude: int) -> None:
    exact = by_recursion(counted_arrivals(rank, rank, quantile, ratio, STEPS), exact_term(Fraction(p)))
    assert round(math.log10(exact.numerator) - math.log10(exact.denominator)) == magnitude
    [found] = ours([rank], rank, quantile, p, ratio, STEPS)
    assert found == pytest.approx(float(exact), rel=1e-9, abs=0)


def test_the_first_step_counts_beyond_the_time_that_is_left_and_no_other_does() -> None:
    # C = 1 and l = 2, 4, 6 …, of which ceil(2 * 0.5) = 1 would be in time.
    assert ours([2], 2, 0.5, 0.25, 0.5, STEPS) == [pytest.approx(0.75**2)]
    # Now l_1 = 4 is in time, and l_2 = 6 is not: one better among two, then none among two.
    assert ours([2], 2, 0.5, 0.25, 2.0, STEPS) == [pytest.approx(0.75**2 + 2 * 0.25 * 0.75 * 0.75**2)]


def test_a_step_more_adds_to_it_and_steps_are_limited() -> None:
    some = [ours([10], 12, 0.5, 0.4, 20.0, steps)[0] for steps in (1, 2, 5, 25)]
    assert some == sorted(set(some))
    for steps, found in zip((1, 2, 5, 25), some, strict=True):
        arrivals = counted_arrivals(10, 12, 0.5, 20.0, steps)
        assert len(arrivals) == steps + 1
        assert found == pytest.approx(float(by_recursion(arrivals, exact_term(Fraction(0.4)))), rel=1e-12)


def test_does_not_depend_on_what_else_is_in_the_block() -> None:
    length = BLOCK + 300
    together = ours(range(1, length + 1), length, 0.04, 0.02, 0.6, 5)
    for rank in (1, 172, 175, 180, 400, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 172, BLOCK + 175, length):
        assert together[rank - 1] == ours([rank], length, 0.04, 0.02, 0.6, 5)[0]
    assert len({together[rank] for rank in range(170, length)}) > 100


def test_does_not_depend_on_how_it_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed() -> list[float]:
        return ours([*range(40, 0, -1), 7, 7], 40, 0.3, 0.35, 1.7, STEPS)

    whole = computed()
    for block in (1, 3, 7, 41):
        monkeypatch.setattr(resume_probability, "BLOCK", block)
        assert computed() == whole


@pytest.mark.parametrize(("p_better", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_probability_that_rounds_to_an_end_is_no_fault(p_better: float, expected: float) -> None:
    found = resume_probabilities(np.array([3]), 4, 0.5, p_better, 10.0, 25)
    assert found == pytest.approx([expected], abs=1e-12)


def test_a_quantile_that_asks_for_more_arrivals_than_there_are_numbers_is_no_fault() -> None:
    probabilities = resume_probabilities(
        np.array([1, 2]), rung_length=2, promotion_quantile=5e-324, p_better=0.5, time_ratio=1.0, approx_steps=STEPS
    )
    assert probabilities.tolist() == [0.0, 0.0]

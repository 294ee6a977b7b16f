"""The urn's first passage against exact fractions, and against a simulation of the same model."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from quota.domain import first_passage
from quota.domain.first_passage import Passages, Urn, log_gamma, passages

if TYPE_CHECKING:
    from collections.abc import Sequence

PATHS = 20_000


def urn_of(length: int, quantile: float, horizon: float, *, steps: int = 25) -> Urn:
    return Urn(rung_length=length, promotion_quantile=quantile, most_arrivals=horizon, steps=steps)


def found(ranks: Sequence[int], known: Sequence[float], urn: Urn, *, share: float | None = None) -> Passages:
    """Let each known arrival have its chance, and the others start with `share`; as entries rank, where it is None."""
    chances = np.array(known, dtype=np.float64).reshape(-1, 1) * np.ones((1, len(ranks)))
    places = np.array(ranks, dtype=np.int64)
    shares = places / (urn.rung_length + 1.0) if share is None else np.full(len(places), share)
    return passages(places, chances, shares, urn)


def is_promotable(rank: int, length: int, quantile: float) -> bool:
    return length >= 2 and rank - 1 <= quantile * (length - 1) + 1e-12


def exactly(rank: int, known: Sequence[float], urn: Urn, *, share: float | None = None) -> Fraction:
    """Follow every number of better arrivals, arrival by arrival, in fractions."""
    size = urn.rung_length + 1
    start = Fraction(rank) if share is None else Fraction(share) * size
    waiting = {0: Fraction(1)}
    total = Fraction(0)
    for arrived in range(int(max(urn.most_arrivals, len(known))) + 1):
        for better in [
            one for one in waiting if is_promotable(rank + one, urn.rung_length + arrived, urn.promotion_quantile)
        ]:
            total += waiting.pop(better)
        following: dict[int, Fraction] = {}
        for better, mass in waiting.items():
            chance = Fraction(known[arrived]) if arrived < len(known) else (start + better) / (size + arrived)
            for more, part in ((1, chance), (0, 1 - chance)):
                if better + more <= urn.steps:
                    following[better + more] = following.get(better + more, Fraction(0)) + mass * part
        waiting = following
    return total


@given(
    length=st.integers(1, 40),
    quantile=st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.8, 0.925]) | st.floats(0.05, 0.97),
    horizon=st.integers(0, 40),
    known=st.lists(st.sampled_from([0.125, 0.5, 0.9375]), max_size=4),
    steps=st.integers(1, 30),
    share=st.none() | st.sampled_from([1e-9, 1 - 1e-9]) | st.floats(0.01, 0.99),
    data=st.data(),
)
def test_is_the_share_of_all_futures_of_the_urn(
    length: int, quantile: float, horizon: int, known: list[float], steps: int, share: float | None, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, length))
    urn = urn_of(length, quantile, horizon, steps=steps)
    expected = float(exactly(rank, known, urn, share=share))
    [probability] = found([rank], known, urn, share=share).probability
    assert probability == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("rank", "length", "quantile", "horizon", "below"),
    [(30, 30, 1 / 3, 60, 1e-23), (120, 120, 0.25, 400, 1e-105), (60, 60, 0.5, 90, 1e-25), (20, 25, 0.25, 60, 1e-9)],
)
def test_tiny_ones_keep_their_digits(rank: int, length: int, quantile: float, horizon: int, below: float) -> None:
    urn = urn_of(length, quantile, horizon)
    exact = float(exactly(rank, (), urn))
    assert 0 < exact < below
    [probability] = found([rank], (), urn).probability
    assert probability == pytest.approx(exact, rel=1e-9, abs=0)


def simulated(rank: int, known: Sequence[float], share: float, urn: Urn, seed: int) -> tuple[float, float]:
    """Simulate the urn, and weigh each path, since arrivals are drawn as rarely better as it takes to get there.

    Returns:
        The mean and its standard error.
    """
    draw = np.random.default_rng(seed)
    better, weights = np.zeros(PATHS), np.ones(PATHS)
    hits = np.zeros(PATHS)
    waiting = np.ones(PATHS, dtype=bool)
    biased = min(0.9 * urn.promotion_quantile, share)
    start = share * (urn.rung_length + 1)
    for arrived in range(int(max(urn.most_arrivals, len(known))) + 1):
        length = urn.rung_length + arrived
        if length >= 2:
            there = waiting & (rank + better - 1 <= urn.promotion_quantile * (length - 1) + 1e-12)
            hits[there] = weights[there]
            waiting &= ~there
        if arrived < len(known):
            chance = np.full(PATHS, known[arrived])
        else:
            chance = (start + better) / (urn.rung_length + 1 + arrived)
        is_better = draw.random(PATHS) < biased
        weights *= np.where(is_better, chance / biased, (1 - chance) / (1 - biased))
        better += is_better
        waiting &= better <= urn.steps
    return float(hits.mean()), float(hits.std() / math.sqrt(PATHS))


def test_agrees_with_a_simulation_of_the_model_down_to_one_in_a_million() -> None:
    draw = np.random.default_rng(20_261_201)
    deviations, smallest = [], 1.0
    while len(deviations) < 60:
        length = int(draw.integers(2, 60))
        rank = int(draw.integers(1, length + 1))
        quantile = float(draw.uniform(0.15, 0.95))
        known = draw.uniform(0.05, 0.95, size=draw.integers(0, 4)).tolist()
        share = (rank / (length + 1)) ** float(draw.uniform(0.5, 2))
        urn = urn_of(length, quantile, int(draw.integers(1, 80)))
        [probability] = found([rank], known, urn, share=share).probability
        if is_promotable(rank, length, quantile) or probability < 1e-6:
            continue
        mean, error = simulated(rank, known, share, urn, seed=len(deviations))
        assert abs(mean - probability) <= 5 * error + 1e-9, (rank, urn, known, share, mean, error, probability)
        assert error < 0.35 * probability
        deviations.append((mean - probability) / error)
        smallest = min(smallest, probability)
    assert smallest < 1e-5
    assert abs(np.mean(deviations)) < 4 / math.sqrt(len(deviations))


def test_is_zero_or_rises_with_the_horizon_and_falls_with_the_rank() -> None:
    rows = [found(range(1, 41), (), urn_of(40, 0.3, horizon)).probability for horizon in (0, 5, 20, 80, 320)]
    for sooner, later in itertools.pairwise(rows):
        assert (later >= sooner * (1 - 1e-12)).all()
    for row in rows:
        assert (np.diff(row) <= 1e-12).all()
    assert rows[0].tolist() == [1.0] * 12 + [0.0] * 28


def test_falls_with_the_share_that_is_to_rank_better() -> None:
    row = [found([9], (0.5,), urn_of(12, 0.5, 40), share=share).probability[0] for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert all(less > more > 0 for less, more in itertools.pairwise(row))


def test_there_is_no_time_for_a_first_step_beyond_the_horizon() -> None:
    # Rank 2 of 2 at 1/2 waits for one worse arrival at least; rank 4 of 4 at 1/4 for nine.
    assert found([2], (), urn_of(2, 0.5, 0)).probability.tolist() == [0.0]
    assert found([4], (), urn_of(4, 0.25, 8)).probability.tolist() == [0.0]
    assert found([4], (), urn_of(4, 0.25, 9)).probability[0] > 0


def test_of_those_that_are_all_promotable_each_is_certain_and_at_once() -> None:
    passage = found([1, 2, 3], (0.5,), urn_of(9, 1 / 3, 10))
    assert passage.probability.tolist() == [1.0] * 3
    assert passage.arrivals[0].tolist() == [0.0] * 3
    assert found([], (), urn_of(9, 1 / 3, 10)).probability.tolist() == []


def test_known_arrivals_count_though_there_is_no_time() -> None:
    # Rank 2 of 2 at 0.7: promotable among three, unless the third ranks better.
    assert found([2], (0.25,), urn_of(2, 0.7, 0)).probability.tolist() == [pytest.approx(0.75)]


def test_does_not_depend_on_how_it_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    urn = urn_of(60, 0.3, 100)
    whole = found(range(1, 61), (0.3, 0.6), urn).chances.tolist()
    monkeypatch.setattr(first_passage, "BLOCK", 7)
    assert found(range(1, 61), (0.3, 0.6), urn).chances.tolist() == whole


@pytest.mark.parametrize("quantile", [5e-324, 1e-6, 1 - 2**-53])
def test_extreme_quantiles_and_horizons_are_no_fault(quantile: float) -> None:
    probability = found([1, 2, 500, 1_000], (0.5,), urn_of(1_000, quantile, 1e300)).probability
    assert ((probability >= 0) & (probability <= 1)).all()


@given(st.floats(1e-3, 1e9))
def test_log_gamma_is_scipys(x: float) -> None:
    [value] = log_gamma(np.array([x]))
    assert value == pytest.approx(float(special.gammaln(x)), rel=1e-13, abs=1e-13)

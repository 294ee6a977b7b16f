"""The yardstick itself: the optimum against brute force, and a replay against what is known of a trace."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.decisions.__main__ import REAL, summed
from benchmarks.decisions.optimum import least_loss
from benchmarks.decisions.replay import Replay
from benchmarks.decisions.trace import Call, Trace, read_traces
from quota.domain.events import PolicyParameters

OPEN_LOOP = Path(__file__).parents[1] / "data" / "open-loop"


def trace_of(name: str) -> Trace:
    [trace] = read_traces([OPEN_LOOP / f"{name}.jsonl.gz"], REAL)
    return trace


def random_trace(seed: int) -> tuple[Trace, list[tuple[int, int, int, int]], int]:
    """Trials that pause one after the other, and of which some are resumed."""
    draw = np.random.default_rng(seed)
    loops, calls, kept = 8, [], []
    stays = {}
    for trial in range(7):
        since = int(draw.integers(0, loops - 1))
        stays[trial] = since, int(draw.integers(since + 1, loops)), int(draw.integers(1, 10))
    sizes = {str(trial): int(draw.integers(1, 4)) for trial in stays}
    for loop in range(loops):
        for trial, (since, until, level) in stays.items():
            call: Call = {"trial_id": trial, "resource": level}
            if loop == until:
                calls.append(call | {"call": "resume_trial"})
                calls.append(call | {"call": "trial_complete"})
            if loop == since:
                calls.append(call | {"call": "trial_result", "decision": "PAUSE"})
        calls.append({"call": "loop_end"})
    kept = [(since, until, sizes[str(trial)], level) for trial, (since, until, level) in stays.items()]
    return Trace("random", {}, calls, sizes), kept, loops


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("in_bytes", [False, True])
def test_the_optimum_is_that_of_brute_force(seed: int, *, in_bytes: bool) -> None:
    trace, kept, loops = random_trace(seed)
    for limit in (1, 2, 4):
        best = min(
            sum(level for (*_, level), keep in zip(kept, chosen, strict=True) if not keep)
            for chosen in itertools.product((False, True), repeat=len(kept))
            if all(
                sum(
                    size if in_bytes else 1
                    for (since, until, size, _), keep in zip(kept, chosen, strict=True)
                    if keep and since <= loop < until
                )
                <= limit
                for loop in range(loops)
            )
        )
        found = least_loss(trace, limit, in_bytes=in_bytes)
        # Parts of a checkpoint cannot be kept, and for bytes the program does not know that.
        assert found <= best + 1e-9 if in_bytes else found == pytest.approx(best)


def test_loses_what_is_known_of_a_trace() -> None:
    trace = trace_of("asha_eta2_tight")
    assert least_loss(trace, 10) == pytest.approx(16)
    by_level, syne_tune, ours = (
        Replay(trace, PolicyParameters(policy=policy), limit=10).run()  # type: ignore[arg-type]
        for policy in ("by_level", "syne-tune", "expected-cost")
    )
    assert (by_level, syne_tune) == (61, 54)
    assert 16 <= ours <= 30


def test_sums_distances_to_the_optimum() -> None:
    losses = {"random": [9, 8], "by_level": [5, 5], "syne-tune": [5, 3], "expected-cost": [4, 2], "optimum": [3, 1]}
    traces = {"a": {"checkpoints": losses}, "b": {"checkpoints": {name: [7, 7] for name in losses}}}
    found = summed(traces, "checkpoints")
    assert found["distance"]["a"] == {"random": 13, "by_level": 6, "syne-tune": 4, "expected-cost": 2}
    assert found["distance"]["total"]["expected-cost"] == 2
    assert found["ratio"]["a"]["expected-cost"] == found["ratio"]["total"]["expected-cost"] == 0.5
    assert found["ratio"]["b"]["expected-cost"] is None

"""Parity with Syne Tune: what it decided in recorded runs, we decide."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from golden.replay import EXPERIMENT, Replay, read_trace
from quota.testing.memory_store import MemoryStore
from recomputing import not_recomputed, whole_stream
from support import HandClock, create_schema, services_over

# Taken out of the environment, where the product knows all variables that begin so.
GOLDEN = Path(os.environ.pop("QUOTA_GOLDEN_DIR", "") or Path(__file__).parents[1] / "data" / "golden")
TRACES = sorted(GOLDEN.glob("*.jsonl.gz"))


def test_there_are_traces() -> None:
    assert TRACES, f"no *.jsonl.gz in {GOLDEN}"


@pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_same_decisions_as_syne_tune_and_each_recomputes_from_the_log(trace: Path, database_url: str) -> None:
    create_schema(database_url)
    header, *calls = read_trace(trace)
    clock, store = HandClock(), MemoryStore("file:///golden")
    with services_over(database_url, clock, lambda _: store) as services:
        replay = Replay(services, clock, store, header)
        replay.run(calls)
        assert list(not_recomputed(whole_stream(services, EXPERIMENT))) == []
    assert replay.disagreements == []
    assert replay.loops_compared == sum(call["call"] == "loop_end" for call in calls)
    assert replay.evictions_compared == calls[-1]["extra_results"]["num_checkpoints_removed"]
    assert replay.scores_compared == sum(len(call.get("candidates", ())) for call in calls)

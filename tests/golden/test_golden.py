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
ON_POSTGRESQL = {"asha_eta4_tuned", "rush"}


def test_there_are_traces() -> None:
    assert TRACES, f"no *.jsonl.gz in {GOLDEN}"


def named(trace: Path) -> str:
    return trace.name.removesuffix(".jsonl.gz")


# What is decided is a pure function of the log: all traces on one database and some on the other show as much.
@pytest.mark.parametrize(
    ("trace", "database"),
    [
        pytest.param(trace, database, id=f"{database}-{named(trace)}")
        for trace in TRACES
        for database in ("sqlite", "postgresql")
        if database == "sqlite" or named(trace) in ON_POSTGRESQL
    ],
)
def test_same_decisions_as_syne_tune_and_each_recomputes_from_the_log(
    trace: Path, database: str, request: pytest.FixtureRequest
) -> None:
    database_url: str = request.getfixturevalue(f"{database}_url")
    create_schema(database_url)
    header, *calls = read_trace(trace)
    clock, store = HandClock(), MemoryStore("file:///golden")
    with services_over(database_url, clock, lambda _: store) as services:
        replay = Replay(services, clock, store, header)
        replay.run(calls)
        assert list(not_recomputed(whole_stream(services, EXPERIMENT))) == []
        lost = services.queries.ask("SELECT lost_resource FROM experiments")[0]["lost_resource"]
        by_decision = services.queries.ask("SELECT coalesce(sum(lost_resource), 0) AS lost FROM eviction_outcomes")
        assert int(by_decision[0]["lost"]) == lost
    assert replay.disagreements == []
    assert replay.loops_compared == sum(call["call"] == "loop_end" for call in calls)
    assert replay.evictions_compared == calls[-1]["extra_results"]["num_checkpoints_removed"]
    assert replay.scores_compared == sum(len(call.get("candidates", ())) for call in calls)

"""How long a plan over many experiments takes, and in how much memory: by candidates, and by the history behind them.

Run it as `python -m benchmarks.plan [EXPERIMENTS TRIALS]` in `tests`; it prints JSON. Each deployment has one limit, on
all bytes, that is exceeded by a hundredth. Each experiment's trials are paused, the better ones at an upper rung,
and all but the candidates hold no checkpoint. Runs are interleaved, figures medians.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sqlalchemy import create_engine, text

from benchmarks.commands import QUOTA, run, timed
from quota.eventlog.tables import streams
from quota.projections.tables import (
    checkpoints,
    estimators,
    experiments,
    paces,
    projected_streams,
    rung_entries,
    rung_snapshots,
    rungs,
    trials,
    usage,
)

_PROMOTED = 0.3
_RUNS = 5
_SIZE = 1_000
_FEW = 10
_COPIED = (
    projected_streams,
    experiments,
    trials,
    rungs,
    rung_entries,
    rung_snapshots,
    estimators,
    paces,
    checkpoints,
    usage,
    streams,
)


def main(experiments_wanted: int, trials_wanted: int) -> None:
    """Measure, and print what was measured."""
    many = trials_wanted // _FEW
    few = many // _FEW
    shapes = {"base": (trials_wanted, few), "more candidates": (trials_wanted, many), "less history": (many, few)}
    with tempfile.TemporaryDirectory() as directory:
        databases = {name: f"sqlite:///{directory}/{number}.db" for number, name in enumerate(shapes)}
        for number, (name, (held, candidates)) in enumerate(shapes.items()):
            _prepare(Path(directory) / str(number), databases[name], experiments_wanted, held, candidates)
        found: dict[str, list[tuple[float, int]]] = {name: [] for name in shapes}
        start = []
        for _ in range(_RUNS):
            start.append(timed([*QUOTA, "plan", "--json", "-e", "e0", "-d", databases["less history"]])[0])
            for name, database in databases.items():
                found[name].append(timed([*QUOTA, "plan", "--json", "-d", database]))
    seconds = {name: statistics.median(one for one, _ in runs) for name, runs in found.items()}
    peak = {name: statistics.median(one for _, one in runs) / 1_000 for name, runs in found.items()}
    print(  # noqa: T201 - what it is for
        json.dumps(
            {
                "benchmark": "plan",
                "experiments": experiments_wanted,
                "shapes": {
                    name: {
                        "trials_each": held,
                        "candidates_each": candidates,
                        "seconds": round(seconds[name], 2),
                        "peak_megabytes": round(peak[name]),
                    }
                    for name, (held, candidates) in shapes.items()
                },
                "one_experiment_seconds": round(statistics.median(start), 2),
                "ten_times_the_history": round(seconds["base"] / seconds["less history"], 2),
                "ten_times_the_candidates": round(seconds["more candidates"] / seconds["base"], 2),
            }
        )
    )


def _prepare(place: Path, database: str, experiments_wanted: int, held: int, candidates: int) -> None:
    run("db", "upgrade", "-d", database)
    store = place / "store"
    store.mkdir(parents=True)
    run("store", "add", str(store), "-d", database)
    events = place / "events.jsonl"
    with events.open("w") as lines:
        for event in _events(store, held, candidates):
            lines.write(json.dumps(event) + "\n")
    run("ingest", str(events), "-d", database)
    run("experiment", "list", "-d", database)
    _copy(database, experiments_wanted)
    most = _SIZE * candidates * experiments_wanted
    run("limit", "set", "--scope", "deployment", "--bytes", str(most * 99 // 100), "-d", database)


def _copy(database: str, experiments_wanted: int) -> None:
    """Copy an experiment's rows, so that there are many."""
    engine = create_engine(database)
    with engine.begin() as connection:
        for number in range(1, experiments_wanted):
            for table in (one.name for one in _COPIED):
                names = [str(row.name) for row in connection.execute(text(f"PRAGMA table_info({table})"))]
                new = {"experiment_id": ":new", "uri": "replace(uri, '/e0/', '/' || :new || '/')"}
                values = ", ".join(new.get(name, name) for name in names)
                connection.execute(
                    text(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE experiment_id = 'e0'"),
                    {"new": f"e{number}"},
                )
    engine.dispose()


def _events(store: Path, held: int, candidates: int) -> Iterator[dict[str, object]]:
    """Yield an experiment's events: its trials are paused, and the candidates have a checkpoint."""
    metrics = np.random.default_rng(1).random(held).tolist()
    number = 0

    def event(kind: str, **data: object) -> dict[str, object]:
        nonlocal number
        number += 1
        event_id = f"019953f2-5d6c-7c3e-8a41-{number:012x}"
        occurred_at = "2026-01-01T00:00:00Z"
        return {"event_id": event_id, "experiment_id": "e0", "type": kind, "occurred_at": occurred_at, "data": data}

    settings = {
        "rung_levels": [1, 3],
        "promotion_quantiles": [_PROMOTED, _PROMOTED],
        "max_resource": 9,
        "max_wallclock_seconds": None,
    }
    yield event("experiment_registered", mode="min", labels={}, **settings)
    for trial in range(held):
        trial_id, metric = str(trial), metrics[trial]
        yield event("trial_started", trial_id=trial_id)
        if trial % (held // candidates) == 0:
            uri = f"file://{store}/e0/{trial}"
            yield event("checkpoint_saved", trial_id=trial_id, uri=uri, size_bytes=_SIZE, resource=1)
        yield event("trial_paused", trial_id=trial_id, level=1, metric=metric)
        if metric < _PROMOTED:
            yield event("trial_resumed", trial_id=trial_id, level=1)
            yield event("trial_paused", trial_id=trial_id, level=3, metric=metric)


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (100, 10_000)))

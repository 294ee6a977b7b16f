"""How long, and in how much memory, a store is compared with the log; beside `find`, which only lists it.

Run it as `python -m benchmarks.reconcile [FILES]` in `tests`; it prints JSON. Runs are interleaved, figures medians.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.commands import QUOTA, run, timed

_FILES_A_CHECKPOINT = 100
_RUNS = 3


def main(files: int) -> None:
    """Measure, and print what was measured."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        database = f"sqlite:///{place}/quota.db"
        root = place / "store"
        trials = files // _FILES_A_CHECKPOINT
        run("db", "upgrade", "-d", database)
        root.mkdir()
        run("store", "add", str(root), "-d", database)
        events = place / "events.jsonl"
        with events.open("w") as lines:
            for event in _events(root, trials):
                lines.write(json.dumps(event) + "\n")
        run("ingest", str(events), "-d", database)
        for trial in range(trials):
            checkpoint = root / f"{trial % 100}" / f"{trial}"
            checkpoint.mkdir(parents=True)
            for number in range(_FILES_A_CHECKPOINT):
                (checkpoint / f"{number}").touch()
        ours, theirs = [], []
        for _ in range(_RUNS):
            ours.append(timed([*QUOTA, "reconcile", "--json", "-d", database]))
            theirs.append(timed(["find", str(root), "-printf", "%s %T@ %p\\n"]))
        seconds, kilobytes = (statistics.median(one[index] for one in ours) for index in (0, 1))
        limit = statistics.median(one[0] for one in theirs)
        print(  # noqa: T201 - what it is for
            json.dumps(
                {
                    "benchmark": "reconcile",
                    "files": files,
                    "checkpoints": trials,
                    "seconds": round(seconds, 2),
                    "find_seconds": round(limit, 2),
                    "ratio": round(seconds / limit, 2),
                    "peak_megabytes": round(kilobytes / 1_000, 1),
                }
            )
        )


def _events(root: Path, trials: int) -> list[dict[str, object]]:
    started = "2026-01-01T00:00:00Z"

    def event(number: int, kind: str, **data: object) -> dict[str, object]:
        event_id = f"019953f2-5d6c-7c3e-8a41-{number:012x}"
        return {"event_id": event_id, "experiment_id": "x", "type": kind, "occurred_at": started, "data": data}

    rungs = {"rung_levels": [1], "promotion_quantiles": [0.5], "max_resource": 9, "max_wallclock_seconds": None}
    found = [event(0, "experiment_registered", mode="min", labels={}, **rungs)]
    for trial in range(trials):
        uri = f"file://{root}/{trial % 100}/{trial}"
        found.append(event(2 * trial + 1, "trial_started", trial_id=str(trial)))
        saved = {"trial_id": str(trial), "uri": uri, "size_bytes": 0, "resource": 1}
        found.append(event(2 * trial + 2, "checkpoint_saved", **saved))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)

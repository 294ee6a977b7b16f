"""Compare the policies. Run it as `python -m benchmarks.decisions [FOLDER …]` in `tests`; it prints JSON.

Each FOLDER, or file, has traces in the form of `tests/data/open-loop`, in which nothing was removed.
"""

from __future__ import annotations

import json
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.decisions.optimum import least_loss
from benchmarks.decisions.replay import Replay
from benchmarks.decisions.trace import Trace, read_traces
from quota.domain.events import PolicyParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA = Path(__file__).parents[2] / "data"
REAL = Path(__file__).parents[3] / "quota" / "demo" / "data" / "digits.jsonl.gz"
LIMITS = (6, 8, 10, 12, 16)
SEEDS = range(5)
BASELINE = "syne-tune"
POLICIES = ("by_level", BASELINE, "expected-cost")


def compare(trace: Trace) -> dict[str, Any]:
    """Replay one trace under all limits and policies; byte limits hold as many checkpoints of its mean size."""
    byte_limits = [limit * trace.mean_size for limit in LIMITS]
    return {
        "checkpoints": {"optimum": [round(least_loss(trace, limit), 6) for limit in LIMITS]}
        | _losses(trace, [{"limit": limit} for limit in LIMITS]),
        "bytes": {"optimum": [round(least_loss(trace, limit, in_bytes=True), 6) for limit in byte_limits]}
        | _losses(trace, [{"limit_bytes": limit} for limit in byte_limits]),
    }


def _losses(trace: Trace, limits: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    drawn = [PolicyParameters(policy="random", seed=seed) for seed in SEEDS]
    found: dict[str, list[float]] = {
        "random": [statistics.mean(Replay(trace, one, **limit).run() for one in drawn) for limit in limits]
    }
    for policy in POLICIES:
        found[policy] = [Replay(trace, PolicyParameters(policy=policy), **limit).run() for limit in limits]
    return found


def summed(traces: dict[str, Any], measure: str) -> dict[str, Any]:
    """Return the distances to the optimum, over all limits, and their ratios to Syne Tune's, by trace and in total."""
    distances = {
        name: {
            policy: round(sum(losses) - sum(found[measure]["optimum"]), 3)
            for policy, losses in found[measure].items()
            if policy != "optimum"
        }
        for name, found in traces.items()
    }
    distances["total"] = {
        policy: round(sum(one[policy] for one in distances.values()), 3) for policy in ("random", *POLICIES)
    }
    ratios = {
        name: {policy: round(one[policy] / one[BASELINE], 3) if one[BASELINE] else None for policy in one}
        for name, one in distances.items()
    }
    return {"distance": distances, "ratio": ratios}


def main(places: Sequence[Path]) -> None:
    """Print what each policy lost on each trace."""
    paths = [path for place in places for path in (sorted(place.glob("*.jsonl.gz")) if place.is_dir() else [place])]
    if not paths:
        raise SystemExit(f"no *.jsonl.gz in {', '.join(map(str, places))}")
    traces = list(read_traces(paths, REAL))
    with ProcessPoolExecutor() as pool:
        found = dict(zip((one.name for one in traces), pool.map(compare, traces), strict=True))
    totals = {measure: summed(found, measure) for measure in ("checkpoints", "bytes")}
    print(json.dumps({"benchmark": "decisions", "limits": LIMITS, "lost": found, **totals}, indent=1))  # noqa: T201 - what it is for


if __name__ == "__main__":
    main([Path(one) for one in sys.argv[1:]] or [DATA / "open-loop", REAL])

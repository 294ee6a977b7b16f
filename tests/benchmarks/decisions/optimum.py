"""The least possible loss, for who knows the future: a linear program over the times that trials are paused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

if TYPE_CHECKING:
    from benchmarks.decisions.trace import Trace


def least_loss(trace: Trace, limit: float, *, in_bytes: bool = False) -> float:
    """Return the least resource that is lost at a limit on checkpoints, or a lower bound of it at one in bytes.

    A trial that is paused in loop s and resumed in loop e occupies a place in loops s … e - 1, of which there are as
    many as running trials leave. For places the matrix is one of intervals, so that the program has an integral
    optimum.
    """
    sizes = trace.sizes if in_bytes else dict.fromkeys(trace.sizes, 1)
    running: set[str] = set()
    paused: dict[str, tuple[int, int]] = {}
    kept: list[tuple[int, int, int, int]] = []
    room: list[float] = []
    for call in trace.calls:
        trial_id = str(call.get("trial_id"))
        match call["call"]:
            case "start_trial":
                running.add(trial_id)
            case "trial_complete":
                running.discard(trial_id)
            case "trial_result" if call["decision"] != "CONTINUE":
                running.discard(trial_id)
                if call["decision"] == "PAUSE":
                    paused[trial_id] = call["resource"], len(room)
            case "resume_trial":
                level, since = paused.pop(trial_id)
                running.add(trial_id)
                if since < len(room):
                    kept.append((since, len(room), sizes[trial_id], level))
            case "loop_end":
                room.append(max(0.0, limit - sum(sizes[one] for one in running)))
            case _:
                pass
    return _solved(kept, room)


def _solved(kept: list[tuple[int, int, int, int]], room: list[float]) -> float:
    if not kept:
        return 0.0
    levels = np.array([level for *_, level in kept], dtype=np.float64)
    entries = [
        (loop, number, size) for number, (since, until, size, _) in enumerate(kept) for loop in range(since, until)
    ]
    rows, columns, data = zip(*entries, strict=True)
    values = np.array(data, dtype=np.float64)
    # SciPy's stubs know neither its sparse matrices nor what may be built of them.
    matrix: Any = coo_matrix((values, (np.array(rows), np.array(columns))), shape=(len(room), len(kept)))  # type: ignore[call-overload, unused-ignore]
    solution = linprog(-levels, A_ub=matrix.tocsr(), b_ub=room, bounds=(0, 1), method="highs")
    if not solution.success:
        raise ArithmeticError(solution.message)
    return float(levels.sum() + solution.fun)

"""Traces in which nothing was ever removed, or nothing that was missed: any policy can be replayed over them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Call = dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """Attributes: name; header; calls: what the tuner did, in order; sizes: bytes of each trial's checkpoint."""

    name: str
    header: Call
    calls: list[Call]
    sizes: dict[str, int]

    @property
    def mean_size(self) -> float:
        return sum(self.sizes.values()) / len(self.sizes)


def read_traces(paths: Sequence[Path], sizes_of: Path) -> Iterator[Trace]:
    """Read traces; where one has no sizes, its trials get those of the real one's, in turn."""
    real = list(_last_sizes(_read(sizes_of)).values())
    for path in paths:
        header, *calls = _read(path)
        own = _last_sizes(calls)
        trial_ids = dict.fromkeys(str(call["trial_id"]) for call in calls if call["call"] == "start_trial")
        sizes = {trial_id: own.get(trial_id, real[number % len(real)]) for number, trial_id in enumerate(trial_ids)}
        yield Trace(path.name.removesuffix(".jsonl.gz"), header, calls, sizes)


def _read(path: Path) -> list[Call]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def _last_sizes(calls: Sequence[Call]) -> dict[str, int]:
    return {str(call["trial_id"]): call["checkpoint_bytes"] for call in calls if call.get("checkpoint_bytes")}

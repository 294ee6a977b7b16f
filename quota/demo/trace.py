"""The recorded run that ships with the package.

Syne Tune 0.13.0 with `LocalBackend` and three workers tuned scikit-learn's `MLPClassifier` on its digits data by
promotion ASHA: one report and one checkpoint an epoch, nine minutes.
"""

from __future__ import annotations

import gzip
import json
from importlib.resources import files
from typing import Any

Call = dict[str, Any]


def recorded_calls() -> tuple[Call, list[Call]]:
    """Return the run's header, and the tuner's calls in their order."""
    packed = files("quota.demo").joinpath("data", "digits.jsonl.gz").read_bytes()
    header, *calls = (json.loads(line) for line in gzip.decompress(packed).splitlines())
    return header, calls

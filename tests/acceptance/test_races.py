"""Resumes and sweeps in five processes; `python -m crash.races` runs more of the same, and prints the counts."""

from __future__ import annotations

from typing import get_args

import pytest

from crash.kinds import DatabaseKind
from crash.races import race

RACES = 150


@pytest.mark.parametrize("kind", get_args(DatabaseKind))
def test_a_resume_always_wins_or_knows(kind: DatabaseKind) -> None:
    counts = race(kind, RACES, seed=3)
    assert counts["violations"] == 0
    assert counts["races"] == RACES
    assert min(counts["promised"], counts["from_scratch"]) >= RACES // 10

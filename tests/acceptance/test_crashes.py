"""Processes are killed at every named point; `python -m crash.driver` does more of the same, and prints counts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from crash.driver import Driver, medium_maker, url_maker
from crash.faults import POINTS

if TYPE_CHECKING:
    from pathlib import Path

RANDOM_KILLS = 10
SELDOM = frozenset(
    f"{when} {what}"
    for when in ("before", "after")
    for what in ("commit of eviction_cancelled", "commit of checkpoint_missing", "mkdir by the store")
)
"""Chance must bring these about; with few tries it may not."""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_holds_after_a_kill_at_any_point(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        driver = Driver(url_maker(kind, tmp_path, stack), medium_maker("local", stack), tmp_path / "disks", seed=7)
        for point in POINTS["local"]:
            driver.at_point(point, tries=4 if point in SELDOM else 20)
        for _ in range(RANDOM_KILLS):
            driver.at_random(0.5)
    assert driver.summary.violations == []
    assert set(POINTS["local"]) - SELDOM - set(driver.summary.killed) == set()

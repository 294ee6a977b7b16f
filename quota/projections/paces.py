"""The paces of all experiments, as far as their rows reflect their streams."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection, select

from quota.domain.pace import Pace, usual_seconds
from quota.projections.tables import paces


def usual_pace(connection: Connection) -> float:
    """Return the seconds that a unit of resource takes in an experiment that has not reported yet."""
    found: dict[str, Pace] = defaultdict(Pace)
    for row in connection.execute(select(paces)):
        found[row.experiment_id].reports[row.bin] = row.reports
    return usual_seconds([median for pace in found.values() if (median := pace.median_seconds) is not None])

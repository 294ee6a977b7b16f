"""Noticing that a host's clock was set while the host ran."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select

from quota.eventlog.processes import boot_id
from quota.eventlog.tables import clock_readings

_ANEW_EVERY = timedelta(days=1)

Uptime = Callable[[], tuple[str, float] | None]
"""Names this boot of the host, and says for how many seconds it has been up, suspended or not."""


def system_uptime() -> tuple[str, float] | None:
    """Ask the system; None where it does not tell."""
    try:
        return boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return None


class ClockWatch:
    """Compares how far the clock has come with how long the host has been up since it was first looked at.

    A server has a clock of its own to compare with. An embedded database has the host's only, and by one that was set
    ahead everything in the trash is due at once.

    Args:
        uptime: Says how long the host has been up.
    """

    def __init__(self, uptime: Uptime = system_uptime) -> None:
        self._uptime = uptime

    def set_by(self, connection: Connection, now: datetime) -> timedelta | None:
        """Return by how much the clock was set since it was first looked at; None where that was not in this boot."""
        up = self._uptime()
        if up is None:
            return timedelta()
        boot, seconds = up
        first = connection.execute(select(clock_readings).where(clock_readings.c.boot == boot)).first()
        return None if first is None else now - first.read_at - timedelta(seconds=seconds - first.up_seconds)

    def is_due(self, connection: Connection, now: datetime) -> bool:
        """Tell whether it is time to look anew: small corrections, a second now and then, add up over months."""
        last = connection.execute(select(func.max(clock_readings.c.read_at))).scalar()
        return last is not None and now - last >= _ANEW_EVERY

    def begin_anew(self, connection: Connection, now: datetime) -> None:
        """Take the present time for right."""
        up = self._uptime()
        if up is not None:
            connection.execute(delete(clock_readings))
            connection.execute(insert(clock_readings).values(boot=up[0], up_seconds=up[1], read_at=now))

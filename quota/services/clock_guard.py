"""Doubting the clock that retention is measured by."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from quota.domain.events import ClockAccepted
from quota.domain.fold.timing import FUTURE_TOLERANCE
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import ClockJumped, StateRefused
from quota.eventlog.clock_watch import ClockWatch
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.ports import Clock

_TIME = "%Y-%m-%d %H:%M:%S"
_ADVICE = "nothing is deleted before that is mended (see: timedatectl)"
_ACCEPT = "if the present time is right, say so with: ckpt-quota db accept-clock"


class ClockGuard:
    """Compares the clock with the database's, with what the log has seen, and with how long the host has been up.

    Args:
        database: Has a clock too, if it is a server's.
        log: Has seen times.
        clock: The one that is doubted.
        watch: Tells whether it was set; asked where the database has no clock of its own.
    """

    def __init__(self, database: Database, log: EventLog, clock: Clock, watch: ClockWatch) -> None:
        self._database = database
        self._log = log
        self._clock = clock
        self._watch = watch

    def require_right(self) -> None:
        """Check that the clock can be right, and begin to watch it.

        Raises:
            ClockJumped: something else says another time by more than five minutes, and no operator has said that the
                present time is right.
        """
        with self._database.read() as connection:
            self._require_as_by_database(connection)
            set_by = self._require_not_set(connection)
            self._require_not_before_log(connection)
            is_due = self._database.is_sqlite and self._watch.is_due(connection, self._clock.now())
        if set_by is None or is_due:
            self._begin_anew()

    def accept(self) -> ClockAccepted:
        """Return the event by which an operator says that the present time is right, and watch the clock anew.

        Raises:
            StateRefused: nobody doubts it.
        """
        with self._database.read() as connection:
            now, last = self._database.now(connection), self._log.last_recorded_at(connection)
            set_by = self._set_by(connection)
        is_ahead = last is not None and last > now
        if not is_ahead and (set_by is None or abs(set_by) <= FUTURE_TOLERANCE):
            reason = "the log has no event of a later time, and the clock was not set: there is nothing to accept"
            raise StateRefused("clock", "now", f"{now:{_TIME}}", reason)
        self._begin_anew()
        return ClockAccepted(until=max(now, last or now))

    def _require_as_by_database(self, connection: Connection) -> None:
        now, by_database = self._clock.now(), self._database.now(connection)
        if abs(now - by_database) > FUTURE_TOLERANCE:
            raise ClockJumped(f"clock: this host says {now:{_TIME}}, the database {by_database:{_TIME}}; {_ADVICE}")

    def _require_not_set(self, connection: Connection) -> timedelta | None:
        set_by = self._set_by(connection)
        if set_by is not None and abs(set_by) > FUTURE_TOLERANCE:
            way, by = "ahead" if set_by > timedelta() else "back", timedelta(seconds=round(abs(set_by.total_seconds())))
            raise ClockJumped(
                f"clock: it was set {way} by {by} while this host was up, or the machine paused; {_ADVICE}; {_ACCEPT}"
            )
        return set_by

    def _require_not_before_log(self, connection: Connection) -> None:
        by_database, last = self._database.now(connection), self._log.last_recorded_at(connection)
        if last is None or last <= by_database + FUTURE_TOLERANCE:
            return
        accepted = self._log.last_of_type(connection, DEPLOYMENT_STREAM, ClockAccepted.TYPE)
        if accepted is None or not isinstance(accepted.payload, ClockAccepted) or last > accepted.payload.until:
            raise ClockJumped(
                f"clock: it is {by_database:{_TIME}}, and the log has events of {last:{_TIME}}; {_ADVICE}; {_ACCEPT}"
            )

    def _set_by(self, connection: Connection) -> timedelta | None:
        now: datetime = self._clock.now()
        return self._watch.set_by(connection, now) if self._database.is_sqlite else timedelta()

    def _begin_anew(self) -> None:
        if self._database.is_sqlite:
            with self._database.write() as connection:
                self._watch.begin_anew(connection, self._clock.now())

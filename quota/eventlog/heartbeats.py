"""Heartbeats: which daemons run, and which have fallen silent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, update

from quota.eventlog.database import Database
from quota.eventlog.processes import has_ended, pid_of, this_process
from quota.eventlog.tables import heartbeats

_FORGOTTEN_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a daemon last said of itself.

    Attributes:
        daemon_id: UUID of this run of it.
        holder: In whose name it works.
        pid: Its process id on its host; None where the system did not tell.
        software_version: Version of the software that it runs.
        started_at: Since when, by the database's clock.
        beat_at: When it was last heard of.
        is_silent: Whether it should have been heard of since, or has ended for sure.
        last_job: The job that it last ran; None before the first.
        last_job_at: When that ended.
        last_error: What went wrong in that job; None where all went well.
    """

    daemon_id: str
    holder: str
    pid: int | None
    software_version: str
    started_at: datetime
    beat_at: datetime
    is_silent: bool
    last_job: str | None
    last_job_at: datetime | None
    last_error: str | None


class Heartbeats:
    """Keeps and shows heartbeats.

    Args:
        database: Where they are kept.
        holder: In whose name this process works.
    """

    def __init__(self, database: Database, holder: str) -> None:
        self._database = database
        self._holder = holder

    def begin(self, daemon_id: str, software_version: str, every: timedelta) -> None:
        """Say that a daemon has started. Forget those that have ended on this host, or been silent for a week."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            connection.execute(delete(heartbeats).where(heartbeats.c.beat_at < now - _FORGOTTEN_AFTER))
            for other in connection.execute(select(heartbeats.c.daemon_id, heartbeats.c.process)).all():
                if has_ended(other.process):
                    connection.execute(delete(heartbeats).where(heartbeats.c.daemon_id == other.daemon_id))
            row = {
                "daemon_id": daemon_id,
                "holder": self._holder,
                "process": this_process(),
                "software_version": software_version,
                "started_at": now,
                "beat_at": now,
                "silent_after": now + 3 * every,
            }
            connection.execute(insert(heartbeats).values(row))

    def beat(self, daemon_id: str, every: timedelta) -> None:
        """Say that a daemon is alive."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            alive = {"beat_at": now, "silent_after": now + 3 * every}
            connection.execute(update(heartbeats).where(heartbeats.c.daemon_id == daemon_id).values(alive))

    def note(self, daemon_id: str, job: str, error: str | None) -> None:
        """Say how a daemon's job has ended."""
        with self._database.write() as connection:
            ended = {"last_job": job, "last_job_at": self._database.now(connection), "last_error": error}
            connection.execute(update(heartbeats).where(heartbeats.c.daemon_id == daemon_id).values(ended))

    def end(self, daemon_id: str) -> None:
        """Say that a daemon has ended as it was told to."""
        with self._database.write() as connection:
            connection.execute(delete(heartbeats).where(heartbeats.c.daemon_id == daemon_id))

    def look(self) -> list[Heartbeat]:
        """Return what all daemons last said, the oldest daemon first."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            rows = connection.execute(select(heartbeats).order_by(heartbeats.c.started_at)).all()
        return [
            Heartbeat(
                daemon_id=row.daemon_id,
                holder=row.holder,
                pid=pid_of(row.process),
                software_version=row.software_version,
                started_at=row.started_at,
                beat_at=row.beat_at,
                is_silent=row.silent_after < now or has_ended(row.process),
                last_job=row.last_job,
                last_job_at=row.last_job_at,
                last_error=row.last_error,
            )
            for row in rows
        ]

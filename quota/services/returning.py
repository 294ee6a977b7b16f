"""Giving back to a trial what was taken for an orphan before the trial reported it."""

from __future__ import annotations

from sqlalchemy import Connection

from quota.domain.identifiers import ORPHANS_STREAM
from quota.domain.locations import parse_location
from quota.eventlog.database import Database
from quota.eventlog.locations import overlapping_locations
from quota.projections.projector import Projector
from quota.services.rescuing import Rescuer
from quota.services.taken_orphans import TAKEN_ORPHANS


class OrphanReturner:
    """Looks through the orphans that are in the trash, or about to be.

    It is asked before the trial's own stream is locked: nobody holds that lock and the orphans' at once.

    Args:
        database: Where the projections are.
        projector: Gives the orphans' lock and state.
        rescuer: Moves them back.
    """

    def __init__(self, database: Database, projector: Projector, rescuer: Rescuer) -> None:
        self._database = database
        self._projector = projector
        self._rescuer = rescuer

    def give_back(self, experiment_id: str, trial_id: str) -> None:
        """Move back what lies in the trash and overlaps a place where the trial has saved a checkpoint since.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        with self._database.read() as connection:
            found = self._reported_by(connection, experiment_id, trial_id)
        if not found:
            return
        with self._projector.locked([ORPHANS_STREAM]) as all_locked:
            locked = all_locked[ORPHANS_STREAM]
            for decision_id in found:
                self._rescuer.bring_back_orphan(locked, decision_id)
            self._projector.store(locked)

    @staticmethod
    def _reported_by(connection: Connection, experiment_id: str, trial_id: str) -> list[str]:
        owner = (experiment_id, trial_id)
        return [
            row.decision_id
            for row in connection.execute(TAKEN_ORPHANS).all()
            if any(
                (one.experiment_id, one.trial_id) == owner
                for one in overlapping_locations(connection, parse_location(row.uri))
            )
        ]

"""Writing what recorders have appended to the projections' tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sqlalchemy import select

from quota.domain.experiment import ExperimentState
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import LogCorrupt, ProjectionDiverged
from quota.eventlog.database import Database
from quota.eventlog.rights import who_may_not_project
from quota.eventlog.tables import streams
from quota.projections.projector import Projector
from quota.projections.tables import projected_streams


class CatchUp:
    """Catches the tables up; where nothing is behind, takes no lock.

    A user that may not write them (a recorder, an auditor) is told what they do not show yet.

    Args:
        database: Where they are.
        projector: Folds what is new.
    """

    def __init__(self, database: Database, projector: Projector) -> None:
        self._database = database
        self._projector = projector

    def experiment(self, experiment_id: str) -> None:
        """Catch one experiment up.

        Raises:
            LogCorrupt: its stream contradicts itself.
            ProjectionDiverged: its tables contradict its stream.
        """
        with self._projector.locked([experiment_id]) as locked:
            self._projector.store(locked[experiment_id])

    def experiments(self, experiment_ids: Sequence[str]) -> dict[str, str]:
        """Catch those up that are behind. Raises what `experiment` does.

        Returns:
            Why some are still behind, by id: this user may not write the tables.
        """
        behind = sorted(set(self.behind()).intersection(experiment_ids))
        reason = self.obstacle() if behind else None
        if reason is not None:
            return dict.fromkeys(behind, reason)
        for experiment_id in behind:
            self.experiment(experiment_id)
        return {}

    def obstacle(self) -> str | None:
        """Return why this user cannot catch anything up; None where it can."""
        with self._database.read() as connection:
            user = who_may_not_project(connection)
        if user is None:
            return None
        advice = "the daemon does, or an operator by: ckpt-quota experiment list"
        return f"the views lag behind the log, and user {user} may not bring them up to date; {advice}"

    def look(self, experiment_id: str) -> ExperimentState:
        """Return an experiment's state by now, whatever the tables say; for users that may not write them."""
        with self._database.read() as connection:
            return self._projector.look(connection, experiment_id)

    def as_far_as_possible(
        self,
        but: Collection[str] = (),
        only: Collection[str] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, str]:
        """Catch all up that are behind, or some of them.

        Args:
            but: Those to leave out.
            only: Those to look at; None for all.
            should_stop: Whether to end before the next one.

        Returns:
            Why experiments cannot be trusted, or why this user cannot catch them up, by id; their tables are as they
            were.
        """
        untrusted: dict[str, str] = {}
        behind = [one for one in self.behind() if one not in but and (only is None or one in only)]
        reason = self.obstacle() if behind else None
        if reason is not None:
            return dict.fromkeys(behind, reason)
        for experiment_id in behind:
            if should_stop():
                break
            try:
                self.experiment(experiment_id)
            except (LogCorrupt, ProjectionDiverged) as error:
                untrusted[experiment_id] = str(error)
        return untrusted

    def behind(self) -> list[str]:
        """Return the experiments whose tables do not reflect the whole of their streams, sorted."""
        query = (
            select(streams.c.experiment_id)
            .outerjoin(projected_streams, projected_streams.c.experiment_id == streams.c.experiment_id)
            .where(streams.c.position > 0, streams.c.experiment_id != DEPLOYMENT_STREAM)
            .where(projected_streams.c.position.is_distinct_from(streams.c.position))
            .order_by(streams.c.experiment_id)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

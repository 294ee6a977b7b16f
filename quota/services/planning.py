"""Planning without writing."""

from __future__ import annotations

from collections.abc import Sequence

from quota.domain.events import PolicyParameters
from quota.domain.plan import Plan, plan_experiment
from quota.eventlog.database import Database
from quota.ports import Clock
from quota.projections.projector import Projector


class Planner:
    """What it plans is what a sweep at that moment would do; it holds a read-only connection and no store.

    Args:
        database: Where the log lies.
        projector: Gives the states.
        clock: For the time ratio.
    """

    def __init__(self, database: Database, projector: Projector, clock: Clock) -> None:
        self._database = database
        self._projector = projector
        self._clock = clock

    def plan(self, experiment_ids: Sequence[str], parameters: PolicyParameters) -> list[Plan]:
        """Return the plans of those experiments that have a limit, all from one snapshot of the database."""
        now = self._clock.now()
        plans = []
        with self._database.read() as connection:
            deployment = self._projector.look_at_deployment(connection)
            for experiment_id in experiment_ids:
                limit = deployment.limit_for(experiment_id)
                if limit is None:
                    continue
                state = self._projector.look(connection, experiment_id)
                if state.experiment is not None:
                    plans.append(
                        plan_experiment(
                            state,
                            limit,
                            parameters,
                            now,
                            lambda uri: None if deployment.store_for(uri) else "out_of_reach",
                        )
                    )
        return plans

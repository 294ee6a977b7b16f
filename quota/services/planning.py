"""Planning without writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quota.domain.events import PolicyParameters
from quota.domain.plan import Plan, plan_experiment
from quota.errors import LogCorrupt, ProjectionDiverged
from quota.eventlog.database import Database
from quota.ports import Clock
from quota.projections.projector import Projector


@dataclass(frozen=True, slots=True)
class Planned:
    """What sweeps would do.

    Attributes:
        plans: One for each experiment that has a limit.
        untrusted: Why experiments were left out whose log or projections contradict themselves, by id.
    """

    plans: list[Plan] = field(default_factory=list)
    untrusted: dict[str, str] = field(default_factory=dict)


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

    def plan(self, experiment_ids: Sequence[str], parameters: PolicyParameters) -> Planned:
        """Return the plans of those experiments that have a limit, all from one snapshot of the database.

        Raises:
            LogCorrupt: the deployment's own stream contradicts itself.
            ProjectionDiverged: its tables contradict it.
        """
        now = self._clock.now()
        planned = Planned()
        with self._database.read() as connection:
            deployment = self._projector.look_at_deployment(connection)
            for experiment_id in experiment_ids:
                limit = deployment.limit_for(experiment_id)
                if limit is None:
                    continue
                try:
                    state = self._projector.look(connection, experiment_id)
                except (LogCorrupt, ProjectionDiverged) as error:
                    planned.untrusted[experiment_id] = str(error)
                    continue
                if state.experiment is not None:
                    planned.plans.append(
                        plan_experiment(
                            state,
                            limit,
                            parameters,
                            now,
                            lambda uri: None if deployment.store_for(uri) else "out_of_reach",
                        )
                    )
        return planned

"""Planning without writing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from quota.domain.deployment import DeploymentState
from quota.domain.events import PolicyParameters
from quota.domain.experiment import ExperimentState
from quota.domain.held_back import Obstacle
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.keeping import Rules
from quota.domain.plan import Plan, SharedPlan
from quota.domain.planning import plan_experiment
from quota.errors import LogCorrupt, ProjectionDiverged, QuotaError
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.ports import Clock
from quota.projections.paces import usual_pace
from quota.projections.projector import Projector
from quota.services.objecting import pinning
from quota.services.sharing import Sharing
from quota.services.stores import OpenStore, Stores


@dataclass(frozen=True, slots=True)
class Planned:
    """What sweeps would do.

    Attributes:
        made_at: The time that they are planned for.
        plans: One for each limit of each experiment alone.
        shared: One for each limit that experiments share.
        untrusted: Why experiments were left out whose log or projections contradict themselves, by id.
        stores: Root of the store that each checkpoint lies in that is to be evicted, by its place.
        heads: Position and hash of the last event that they rest on, by stream.
    """

    made_at: datetime
    plans: list[Plan] = field(default_factory=list)
    shared: list[SharedPlan] = field(default_factory=list)
    untrusted: dict[str, str] = field(default_factory=dict)
    stores: dict[str, str] = field(default_factory=dict)
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def parts(self) -> list[Plan]:
        """All that is to be done, experiment by experiment, in the order in which it would be."""
        parts = [*self.plans, *(part for shared in self.shared for part in shared.parts)]
        return [part for part in parts if part.is_to_be_done]


class Planner:
    """What it plans is what a sweep at that moment would do; it holds a read-only connection, and deletes nothing.

    Args:
        database: Where the log lies.
        log: Says which experiments there are.
        projector: Gives the states.
        clock: For the time ratio.
        open_store: Opens a store, to see how full its file system is.
    """

    def __init__(
        self, database: Database, log: EventLog, projector: Projector, clock: Clock, open_store: OpenStore
    ) -> None:
        self._database = database
        self._log = log
        self._projector = projector
        self._clock = clock
        self._open_store = open_store

    def plan(self, experiment_ids: Sequence[str], parameters: PolicyParameters, now: datetime | None = None) -> Planned:
        """Return the plans for all limits, from one snapshot of the database.

        Args:
            experiment_ids: From which anything may be evicted.
            parameters: The policy.
            now: The time to plan for; the clock's where it is not given.

        Raises:
            LogCorrupt: the deployment's own stream contradicts itself.
            ProjectionDiverged: its tables contradict it.
        """
        with self._database.read() as connection:
            planning = _Planning(
                connection, self._log, self._projector, self._open_store, parameters, now or self._clock.now()
            )
            return planning.plan(experiment_ids)


class _Planning:
    """One plan in the making, on one snapshot."""

    def __init__(
        self,
        connection: Connection,
        log: EventLog,
        projector: Projector,
        open_store: OpenStore,
        parameters: PolicyParameters,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._log = log
        self._projector = projector
        self._open_store = open_store
        self._parameters = parameters
        self._now = now
        self._deployment: DeploymentState = projector.look_at_deployment(connection)
        self._usual_pace = usual_pace(connection)
        self._planned = Planned(made_at=now)

    def plan(self, experiment_ids: Sequence[str]) -> Planned:
        for experiment_id in experiment_ids:
            limits = self._deployment.own_limits(experiment_id)
            if not limits:
                continue
            try:
                state = self._projector.glance(self._connection, experiment_id, ranked=True)
            except (LogCorrupt, ProjectionDiverged) as error:
                self._distrust(experiment_id, error)
                continue
            if state.experiment is not None:
                self._planned.plans.extend(plan_experiment(state, limits, self._rules(state), self._obstacle))
        sharing = Sharing(
            deployment=self._deployment,
            parameters=self._parameters,
            looked_at=self._looked_at,
            rules=self._rules,
            obstacle=self._obstacle,
            space_at=Stores(self._deployment, self._open_store).space_at,
            distrust=self._distrust,
        )
        heads = self._log.heads(self._connection)
        self._planned.heads.update((stream, (position, digest)) for stream, position, digest in heads)
        every = [stream for stream, position, _ in heads if position and stream != DEPLOYMENT_STREAM]
        self._planned.shared.extend(sharing.plan(every, set(experiment_ids), self._planned.plans))
        for uri in (one.uri for part in self._planned.parts for one in part.evictions):
            store = self._deployment.store_for(uri)
            if store is not None:
                self._planned.stores[uri] = store.uri
        return self._planned

    @contextmanager
    def _looked_at(self, experiment_id: str, *, ranked: bool) -> Iterator[ExperimentState]:
        yield self._projector.glance(self._connection, experiment_id, ranked=ranked)

    def _rules(self, state: ExperimentState) -> Rules:
        return Rules(
            parameters=self._parameters,
            now=self._now,
            seconds_per_resource=state.pace.median_seconds or self._usual_pace,
            is_pinned=pinning(state, self._deployment),
        )

    def _obstacle(self, uri: str) -> Obstacle | None:
        return None if self._deployment.store_for(uri) else "out_of_reach"

    def _distrust(self, experiment_id: str, error: QuotaError) -> None:
        self._planned.untrusted[experiment_id] = str(error)

"""Sweeps: one process at a time evicts until the limits hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from quota.domain.events import (
    PolicyParameters,
)
from quota.domain.plan import Plan
from quota.eventlog.database import Database
from quota.eventlog.leases import Leases
from quota.projections.projector import Projector
from quota.services.appending import Appender
from quota.services.evicting import Evictor
from quota.services.fencing import SWEEP_LEASE, FencedStreams
from quota.services.healing import Healer
from quota.services.listing import Lister
from quota.services.rescuing import Rescuer
from quota.services.stores import OpenStore, Stores
from quota.services.sweep_run import Progress, Silent, SweepOrder, SweepReport, SweepRun


class Sweeper:
    """Sweeps: plans under the stream's lock, and carries the plan out.

    Args:
        database: Where the log lies.
        projector: Gives the locks and states.
        appender: In whose name.
        open_store: Opens a store.
        leases: Sees to it that one process sweeps at a time.
        rescuer: Looks again for what is not at its place.
        software_version: Is recorded with each sweep.
    """

    def __init__(
        self,
        database: Database,
        projector: Projector,
        appender: Appender,
        open_store: OpenStore,
        leases: Leases,
        rescuer: Rescuer,
        software_version: str,
    ) -> None:
        self._database = database
        self._projector = projector
        self._appender = appender
        self._open_store = open_store
        self._leases = leases
        self._rescuer = rescuer
        self._software_version = software_version

    def sweep(self, experiment_ids: Sequence[str], order: SweepOrder, progress: Progress | None = None) -> SweepReport:
        """Finish what earlier sweeps left open, evict until the limits hold, and purge what is due.

        Raises:
            DatabaseUnavailable: the database went away; what was claimed is finished by the next sweep.
            ProjectionDiverged: the log and the projections disagree; nothing more is deleted.
            LeaseHeld: another process sweeps.
            LeaseLost: this process took too long, and another one has taken over.
        """
        with self._running(order, progress) as run:
            for experiment_id in experiment_ids:
                run.sweep(experiment_id)
            run.healer.heal(experiment_ids)
            run.finish()
            return run.report

    def plan(self, experiment_id: str, parameters: PolicyParameters) -> Plan | None:
        """Return what a sweep would do now for one experiment; None where it has no limit."""
        with self._running(SweepOrder(parameters, timedelta()), None) as run:
            return run.plan(experiment_id)

    def carry_out(self, plan: Plan, order: SweepOrder, progress: Progress | None = None) -> SweepReport:
        """Evict what `plan` names, as far as it still may be evicted, and purge what is due."""
        with self._running(order, progress) as run:
            run.carry_out(plan)
            run.purge(plan.experiment_id)
            run.finish()
            return run.report

    @contextmanager
    def _running(self, order: SweepOrder, progress: Progress | None) -> Iterator[SweepRun]:
        with self._leases.held(SWEEP_LEASE, order.lease_term) as lease:
            with self._database.read() as connection:
                deployment = self._projector.look_at_deployment(connection)
            streams, stores = FencedStreams(self._projector, lease), Stores(deployment, self._open_store)
            yield SweepRun(
                streams=streams,
                projector=self._projector,
                appender=self._appender,
                evictor=Evictor(self._appender, streams),
                deployment=deployment,
                stores=stores,
                lister=Lister(stores, lease),
                rescuer=self._rescuer,
                healer=Healer(self._database, streams, stores),
                order=order,
                progress=progress or Silent(),
                software_version=self._software_version,
            )

"""Sweeps: one process at a time evicts until the limits hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Connection

from quota.domain.events import (
    PolicyParameters,
)
from quota.domain.fold import FUTURE_TOLERANCE
from quota.domain.plan import Plan
from quota.errors import ClockJumped
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

_TIME = "%Y-%m-%d %H:%M:%S"


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
        trusts_no_clock: Whether to compare the clock with the database's before each sweep.
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
        *,
        trusts_no_clock: bool,
    ) -> None:
        self._database = database
        self._projector = projector
        self._appender = appender
        self._open_store = open_store
        self._leases = leases
        self._rescuer = rescuer
        self._software_version = software_version
        self._trusts_no_clock = trusts_no_clock

    def sweep(self, experiment_ids: Sequence[str], order: SweepOrder, progress: Progress | None = None) -> SweepReport:
        """Finish what earlier sweeps left open, evict until the limits hold, and purge what is due.

        Raises:
            DatabaseUnavailable: the database went away; what was claimed is finished by the next sweep.
            ProjectionDiverged: the log and the projections disagree; nothing more is deleted.
            ClockJumped: the host's clock cannot be right; nothing was done.
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

    def _require_clock(self, connection: Connection) -> None:
        """Compare the clock that retention is measured by with the database's, and with what the log has seen.

        Raises:
            ClockJumped: they are more than five minutes apart.
        """
        now, by_database = self._appender.clock.now(), self._database.now(connection)
        last = self._appender.log.last_recorded_at(connection)
        advice = "nothing is deleted before that is mended (see: timedatectl)"
        if abs(now - by_database) > FUTURE_TOLERANCE:
            raise ClockJumped(f"clock: this host says {now:{_TIME}}, the database {by_database:{_TIME}}; {advice}")
        if last is not None and last > by_database + FUTURE_TOLERANCE:
            raise ClockJumped(f"clock: it is {by_database:{_TIME}}, and the log has events of {last:{_TIME}}; {advice}")

    @contextmanager
    def _running(self, order: SweepOrder, progress: Progress | None) -> Iterator[SweepRun]:
        with self._leases.held(SWEEP_LEASE, order.lease_term) as lease:
            with self._database.read() as connection:
                if self._trusts_no_clock:
                    self._require_clock(connection)
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

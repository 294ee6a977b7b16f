"""Sweeps: one process at a time evicts until the limits hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from quota.domain.deployment import DeploymentState
from quota.domain.identifiers import DEPLOYMENT_STREAM, ORPHANS_STREAM
from quota.errors import LogCorrupt, ProjectionDiverged, StreamArchived
from quota.eventlog.archived import archived_streams
from quota.eventlog.database import Database
from quota.eventlog.leases import Leases
from quota.projections.catching_up import CatchUp
from quota.projections.paces import usual_pace
from quota.projections.projector import Projector
from quota.services.aliases import Aliases
from quota.services.appending import Appender
from quota.services.claiming import Claimer
from quota.services.clock_guard import ClockGuard
from quota.services.fencing import SWEEP_LEASE, FencedStreams, fencing
from quota.services.healing import Healer
from quota.services.lineage import Lineage
from quota.services.listing import Lister
from quota.services.not_taking import begun_before, not_taken
from quota.services.open_decisions import OpenDecisions
from quota.services.orphans import OrphanTrasher
from quota.services.planning import Planned
from quota.services.purging import Purger
from quota.services.reported import ReportedPlaces
from quota.services.rescuing import Rescuer
from quota.services.settling import Settler
from quota.services.stores import OpenStore, Stores
from quota.services.sweep_order import Progress, Silent, SweepOrder, SweepReport, never
from quota.services.sweep_run import SweepRun
from quota.services.trash_keeping import TrashKeeper
from quota.services.trusting import Chains


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
        clock_guard: Doubts the clock before each sweep and purge; None where it is set by hand.
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
        clock_guard: ClockGuard | None,
    ) -> None:
        self._database = database
        self._projector = projector
        self._appender = appender
        self._open_store = open_store
        self._leases = leases
        self._rescuer = rescuer
        self._software_version = software_version
        self._clock_guard = clock_guard
        self._chains = Chains(database, appender.log)

    def sweep(
        self,
        experiment_ids: Sequence[str],
        order: SweepOrder,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = never,
    ) -> SweepReport:
        """Finish what earlier sweeps left open, evict until the limits hold, and purge what is due.

        Args:
            experiment_ids: Where.
            order: How.
            progress: Is told how it goes.
            should_stop: Whether to end after the batch in hand; the next sweep finishes what is open.

        Raises:
            DatabaseUnavailable: the database went away; what was claimed is finished by the next sweep.
            LogCorrupt: the deployment's own stream contradicts itself; nothing was done. (Where an experiment's does,
                or its projections are not what the log says, the others are swept, and the report names it.)
            ClockJumped: the host's clock cannot be right; nothing was done, or nothing was purged since.
            LeaseHeld: another process sweeps.
            LeaseLost: this process took too long, and another one has taken over.
        """
        with self.running(order, progress, should_stop) as run:
            return self._swept(run, self._in_log(experiment_ids))

    def apply(
        self,
        confirmed: Callable[[], Planned],
        experiment_ids: Sequence[str],
        order: SweepOrder,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = never,
    ) -> SweepReport:
        """Carry out a saved plan, and nothing else: what may not be evicted any more is left, and nothing goes instead.

        It finishes nothing that earlier sweeps left open, and purges nothing only because it is due.

        Args:
            confirmed: Gives the plan as it is by now, or raises because that is another one. It is asked once no other
                process can sweep, and before anything is done.
            experiment_ids: Where it evicts.
            order: How, with what is approved: that is asked again at each claim, move and purge.
            progress: Is told how it goes.
            should_stop: Whether to end after the batch in hand.

        Raises:
            PlanStale: it holds no more; nothing was done.
            QuotaError: what `sweep` raises.
        """
        if order.approval is None:
            message = "a saved plan is applied by what it approves"
            raise ValueError(message)
        with self.running(order, progress, should_stop) as run:
            planned = confirmed()
            for part in planned.parts:
                run.carry_out_part(part)
            report = self._swept(run, experiment_ids)
            with self._database.read() as connection:
                report.not_taken.extend(not_taken(connection, self._projector, planned))
                report.left_open = begun_before(connection, report.sweep_id)
            return report

    def _swept(self, run: SweepRun, experiment_ids: Sequence[str]) -> SweepReport:
        """Do what a sweep does about all experiments, and record its end."""
        # First of all, what a trial has reported since gets back to its place, where the others are looked for.
        if self._has_orphans():
            _for_each([ORPHANS_STREAM], run, run.sweep)
        _for_each([one for one in experiment_ids if one != ORPHANS_STREAM], run, run.sweep)
        run.sweep_shared(self._every_experiment(), experiment_ids)
        run.healer.heal([one for one in experiment_ids if one not in run.report.untrusted])
        run.finish()
        return run.report

    def purge(
        self, experiment_ids: Sequence[str], order: SweepOrder, should_stop: Callable[[], bool] = never
    ) -> SweepReport:
        """Delete for good what is due in the trash, and nothing else. Raises what `sweep` does."""
        with self.running(order, None, should_stop) as run:
            _for_each(self._in_log(experiment_ids), run, run.purge_due)
            run.finish()
            return run.report

    def trash_orphans(
        self, uris: Sequence[str], older_than: timedelta, order: SweepOrder, progress: Progress | None = None
    ) -> SweepReport:
        """Move to the trash what lies in stores and belongs to no checkpoint. Raises what `sweep` does.

        Each is looked at once more, and left where it is if it was written to since, if a trial has reported it, or if
        it holds a checkpoint under another name.

        Args:
            uris: Their places.
            older_than: Age from which on what nobody has reported is an orphan.
            order: How; its policy has no say.
            progress: Is told how it goes.
        """
        with self.running(order, progress) as run:
            trasher = OrphanTrasher(run, self._aliases(), older_than)
            _for_each([ORPHANS_STREAM], run, lambda _: trasher.trash(uris))
            run.finish()
            return run.report

    def _every_experiment(self) -> list[str]:
        with self._database.read() as connection:
            heads = self._appender.log.heads(connection)
        return self._in_log([stream for stream, position, _ in heads if position and stream != DEPLOYMENT_STREAM])

    def _in_log(self, experiment_ids: Sequence[str]) -> list[str]:
        """Leave out what holds nothing, and whose events lie in an archive."""
        with self._database.read() as connection:
            archived = archived_streams(connection)
        return [one for one in experiment_ids if one not in archived]

    def _deployment(self) -> DeploymentState:
        with self._database.read() as connection:
            return self._projector.deployment(connection)

    def _has_orphans(self) -> bool:
        with self._database.read() as connection:
            return self._appender.log.position(connection, ORPHANS_STREAM) > 0

    def _require_clock(self) -> None:
        if self._clock_guard is not None:
            self._clock_guard.require_right()

    def _aliases(self) -> Aliases:
        return Aliases(self._database, self._projector, CatchUp(self._database, self._projector))

    @contextmanager
    def running(
        self, order: SweepOrder, progress: Progress | None = None, should_stop: Callable[[], bool] = never
    ) -> Iterator[SweepRun]:
        """Hold the lease, and give the parts of a sweep one by one.

        Raises:
            ClockJumped: the host's clock cannot be right; nothing was done.
            LeaseHeld: another process sweeps.
        """
        with self._leases.held(SWEEP_LEASE, order.lease_term) as lease:
            self._require_clock()
            deployment = self._deployment()
            with self._database.read() as connection:
                usual = usual_pace(connection)
            streams = FencedStreams(self._projector, lease)
            lineage = Lineage(self._database, self._appender.log)
            stores = Stores(deployment, fencing(self._open_store, lease), lineage)
            report = SweepReport()
            aliases = self._aliases()
            reported = ReportedPlaces(self._database, stores)
            decisions = OpenDecisions(
                self._database, self._appender, streams, stores, reported, report.tally, should_stop, order
            )
            lister = Lister(stores, lease, aliases, should_stop, report.left_alone, order.clock_tolerance)
            watching = progress or Silent()
            claimer = Claimer(
                streams=streams,
                projector=self._projector,
                appender=self._appender,
                stores=stores,
                chains=self._chains,
                lister=lister,
                rescuer=self._rescuer,
                order=order,
                progress=watching,
                report=report,
            )
            yield SweepRun(
                database=self._database,
                streams=streams,
                projector=self._projector,
                appender=self._appender,
                settler=Settler(decisions, aliases),
                purger=Purger(decisions, self._require_clock),
                trash_keeper=TrashKeeper(decisions),
                stores=stores,
                chains=self._chains,
                lister=lister,
                claimer=claimer,
                healer=Healer(self._database, streams, stores, self._appender.clock.now),
                order=order,
                progress=watching,
                should_stop=should_stop,
                deployment=self._deployment,
                usual_pace=usual,
                software_version=self._software_version,
                report=report,
            )


def _for_each(experiment_ids: Sequence[str], run: SweepRun, work: Callable[[str], None]) -> None:
    """Do something for experiment after experiment; one that cannot be trusted stops no other."""
    for experiment_id in experiment_ids:
        if run.should_stop():
            return
        try:
            work(experiment_id)
        except StreamArchived:
            # Its events were removed meanwhile, so it holds nothing.
            continue
        except (LogCorrupt, ProjectionDiverged) as error:
            run.distrust(experiment_id, error)

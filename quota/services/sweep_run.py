"""One sweep under way: plan what has to go, claim it, and have it carried out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from quota.domain.deployment import DeploymentState
from quota.domain.events import Event, SweepFinished, SweepStarted
from quota.domain.experiment import ExperimentState
from quota.domain.held_back import Obstacle
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.keeping import Rules
from quota.domain.plan import Plan, SharedPlan
from quota.domain.planning import plan_experiment
from quota.errors import LogCorrupt, ProjectionDiverged, QuotaError
from quota.eventlog.database import Database
from quota.eventlog.log import Prepared
from quota.projections.projector import Projector
from quota.services.appending import Appender
from quota.services.claiming import Claimer
from quota.services.fencing import FencedStreams
from quota.services.healing import Healer
from quota.services.ids import new_id
from quota.services.listing import Lister
from quota.services.objecting import pinning
from quota.services.purging import Purger
from quota.services.settling import Settler
from quota.services.sharing import Sharing
from quota.services.stores import Stores
from quota.services.sweep_order import Progress, SweepOrder, SweepReport
from quota.services.tally import said
from quota.services.trash_keeping import TrashKeeper
from quota.services.trusting import Chains

_ROUNDS = 3
"""How often at most one experiment is planned anew in a sweep; what arrives after that is the next one's."""

_ERRORS_KEPT = 20
"""How many of a sweep's errors its last event keeps; those about one checkpoint are in its decision too."""


@dataclass(slots=True, kw_only=True)
class SweepRun:
    """One sweep under way. It stops after the batch in hand once `should_stop`; the next one finishes what is open."""

    database: Database
    streams: FencedStreams
    projector: Projector
    appender: Appender
    settler: Settler
    purger: Purger
    trash_keeper: TrashKeeper
    stores: Stores
    chains: Chains
    lister: Lister
    claimer: Claimer
    healer: Healer
    order: SweepOrder
    progress: Progress
    should_stop: Callable[[], bool]
    deployment: Callable[[], DeploymentState]
    usual_pace: float
    software_version: str
    report: SweepReport

    def sweep(self, experiment_id: str) -> None:
        """Sweep one experiment, and evict until the limits hold that are its own."""
        self.trash_keeper.look_after_trash(experiment_id)
        if self.settler.has_claims(experiment_id):
            self._begin(experiment_id)
            self.settler.settle_claims(experiment_id, self.progress.moved)
        rounds = _ROUNDS
        # Tuners go on meanwhile, so that there may be more to evict than when it was planned.
        while rounds and not self.should_stop():
            plans = self.plan(experiment_id)
            if not any(plan.is_to_be_done for plan in plans):
                break
            rounds -= all(self.carry_out(plan) for plan in plans)
        self.purge(experiment_id)
        self._note_excess(experiment_id)

    def sweep_shared(self, experiment_ids: Sequence[str], chosen: Collection[str]) -> None:
        """Evict until the limits hold that experiments share.

        Args:
            experiment_ids: All that there are: what each holds counts.
            chosen: Those that anything may be evicted from.
        """
        rounds = _ROUNDS
        while rounds and not self.should_stop():
            plans = self._plan_shared(experiment_ids, chosen)
            parts = [part for plan in plans for part in plan.parts]
            if not parts:
                break
            rounds -= all(self.carry_out_part(part) for part in parts)
        for plan in self._plan_shared(experiment_ids, chosen):
            if self._is_to_be_told_of(plan):
                self.report.note_shared_excess(plan.limit.scope, plan.kept)

    def carry_out_part(self, part: Plan) -> bool:
        """Carry out one experiment's part; one that cannot be trusted stops no other.

        Returns:
            False where the plan has to be made anew.
        """
        if self.should_stop():
            return True
        try:
            return self.carry_out(self.claimer.left_of(part))
        except (LogCorrupt, ProjectionDiverged) as error:
            self.distrust(part.experiment_id, error)
            return True

    def _plan_shared(self, experiment_ids: Sequence[str], chosen: Collection[str]) -> list[SharedPlan]:
        deployment = self.deployment()
        sharing = Sharing(
            deployment=deployment,
            parameters=self.order.parameters,
            looked_at=self._looked_at,
            rules=lambda state: self.rules(state, deployment),
            obstacle=self.obstacle,
            space_at=self.stores.space_at,
            distrust=self.distrust,
        )
        trusted = [one for one in experiment_ids if one not in self.report.untrusted]
        return sharing.plan(trusted, {one for one in chosen if one not in self.report.untrusted})

    def plan(self, experiment_id: str) -> list[Plan]:
        """Plan what is left to this run, and store what the projections have caught up with."""
        return [self.claimer.left_of(plan) for plan in self._whole_plans(experiment_id)]

    def _whole_plans(self, experiment_id: str) -> list[Plan]:
        deployment = self.deployment()
        limits = deployment.own_limits(experiment_id)
        if not limits:
            return []
        with self._looked_at(experiment_id, ranked=True) as state:
            if state.experiment is None:
                return []
            return plan_experiment(state, limits, self.rules(state, deployment), self.obstacle)

    @contextmanager
    def _looked_at(self, experiment_id: str, *, ranked: bool) -> Iterator[ExperimentState]:
        """Give an experiment's state, which may have changed as soon as it is given: what is planned is asked again.

        What is neither kept nor behind is loaded as far as it is asked for, without the lock.
        """
        self.streams.lease.keep()
        if not self.projector.is_at_hand(experiment_id):
            with self.database.read() as connection:
                if self.projector.is_caught_up(connection, experiment_id):
                    yield self.projector.glance(connection, experiment_id, ranked=ranked)
                    return
        with self.streams.locked(experiment_id) as locked:
            self.projector.store(locked)
            yield locked.state

    def rules(self, state: ExperimentState, deployment: DeploymentState) -> Rules:
        """Return by which rules an experiment's checkpoints are chosen."""
        return Rules(
            parameters=self.order.parameters,
            now=self.appender.clock.now(),
            seconds_per_resource=state.pace.median_seconds or self.usual_pace,
            is_pinned=pinning(state, deployment),
            may_purge=partial(self.order.may_carry_out, state.experiment_id),
        )

    def obstacle(self, uri: str) -> Obstacle | None:
        """Say what keeps a checkpoint from being chosen; what was approved is not chosen, but carried out as it is."""
        return self.lister.obstacle(uri) or (None if self.order.approval is None else "unapproved")

    def carry_out(self, plan: Plan) -> bool:
        """Delete the trash that a plan wants gone, claim what it names, and move that to the trash.

        Returns:
            False where the plan has to be made anew.
        """
        if plan.purges:
            self._begin(plan.experiment_id)
            self.purger.purge_at_once(plan.experiment_id, plan.purges, self.order)
        if not plan.evictions or self.should_stop():
            return True
        self._begin(plan.experiment_id)
        if not self.claimer.claim(plan):
            return False
        self.report.plans.append(plan)
        self.settler.settle_claims(plan.experiment_id, self.progress.moved)
        return True

    def purge(self, experiment_id: str) -> None:
        """Delete for good what is due."""
        if self.purger.has_due(experiment_id, self.order):
            self._begin(experiment_id)
            self.purger.purge_trash(experiment_id, self.order)

    def purge_due(self, experiment_id: str) -> None:
        """Delete what is due, and nothing else."""
        self.trash_keeper.look_after_trash(experiment_id)
        self.purge(experiment_id)

    def _begin(self, experiment_id: str) -> None:
        """Make sure of an experiment's log, and record that the sweep begins: something is about to be moved."""
        self.chains.require_whole(experiment_id)
        self.start()

    def distrust(self, experiment_id: str, error: QuotaError) -> None:
        """Note that nothing of an experiment may be evicted, since its log or its projections contradict themselves."""
        self.report.untrusted[experiment_id] = said(error)

    def finish(self) -> None:
        """Record the end, where there was anything to record."""
        tally = self.report.tally
        tally.errors.extend(self.stores.suspended.values())
        if self.report.sweep_id is None:
            return
        errors = [*self.report.untrusted.values(), *tally.errors, *self.report.left_alone]
        self._record(
            SweepFinished(
                sweep_id=self.report.sweep_id,
                decided=tally.decided,
                evicted=tally.evicted,
                failed=tally.failed,
                cancelled=tally.cancelled,
                missing=len(tally.missing),
                freed_bytes=tally.freed_bytes,
                exceeded=(*self.report.exceeded, *self.report.exceeded_scopes),
                errors=tuple(said(error) for error in errors[:_ERRORS_KEPT]),
            )
        )

    def start(self) -> None:
        """Record that the sweep begins, where that is not done yet: there is something to do."""
        if self.report.sweep_id is not None:
            return
        # Where deletion is allowed, and what the limits are, is said there.
        self.chains.require_whole(DEPLOYMENT_STREAM)
        self.report.sweep_id = new_id()
        started = SweepStarted(
            sweep_id=self.report.sweep_id,
            parameters=self.order.parameters,
            software_version=self.software_version,
            plan_made_at=None if self.order.approval is None else self.order.approval.made_at,
            plan_sha256=None if self.order.approval is None else self.order.approval.digest,
        )
        self.stores.begin(*self._record(started))

    def _record(self, payload: Event) -> tuple[int, bytes]:
        """Record an event of the deployment's, and return its position and the chain's hash there."""
        self.streams.lease.keep()
        prepared = Prepared.of(self.appender.event(DEPLOYMENT_STREAM, payload))
        with self.appender.log.locked([DEPLOYMENT_STREAM]) as streams:
            stream = streams[DEPLOYMENT_STREAM]
            self.appender.log.add(stream, prepared)
            self.projector.store_deployment(stream)
        return stream.position, stream.hash

    def _note_excess(self, experiment_id: str) -> None:
        for plan in self._whole_plans(experiment_id):
            if self._is_to_be_told_of(plan):
                self.report.note_excess(experiment_id, plan.kept)

    def _is_to_be_told_of(self, plan: Plan | SharedPlan) -> bool:
        """Tell whether a limit that is left exceeded is more than the next sweep's affair.

        What can still go will, with the next sweep: to be told of is what cannot, and what this one might not do.
        """
        is_cut_short = self.report.is_capped or self.should_stop()
        return plan.shortfall > 0 or (is_cut_short and plan.target.is_exceeded_without(0))

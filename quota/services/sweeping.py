"""The sweep: plan what has to go, claim it, and carry it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from quota.domain.deployment import DeploymentState
from quota.domain.events import (
    CheckpointMissing,
    Event,
    EvictionDecided,
    PolicyParameters,
    SweepFinished,
    SweepStarted,
)
from quota.domain.experiment import ExperimentState
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.manifest import Manifest
from quota.domain.plan import HeldBack, Plan, held_back, plan_experiment
from quota.domain.policies import Candidate
from quota.errors import CheckpointGone, PathRefused, StoreError
from quota.eventlog.database import Database
from quota.eventlog.leases import Leases
from quota.eventlog.log import Prepared
from quota.projections.projector import Projector
from quota.services.appending import Appender
from quota.services.evicting import Evictor, Tally, objection
from quota.services.fencing import SWEEP_LEASE, FencedStreams
from quota.services.ids import new_id
from quota.services.stores import OpenStore, Stores


class Progress(Protocol):
    """Watches a sweep."""

    def expect(self, checkpoints: int) -> None:
        """Learn that so many more checkpoints are to be moved."""
        ...

    def moved(self) -> None:
        """Learn that one of them is done with."""
        ...


class Silent:
    """Watches, and says nothing."""

    def expect(self, checkpoints: int) -> None:
        """Say nothing."""

    def moved(self) -> None:
        """Say nothing."""


@dataclass(slots=True)
class SweepReport:
    """What a sweep did.

    Attributes:
        sweep_id: Its id; None where there was nothing to do, so that nothing was recorded.
        plans: The plans that it carried out.
        tally: What became of the decisions.
        exceeded: Ids of the experiments whose limits still do not hold.
        held_back: For each of them, how many checkpoints it holds by why they cannot be evicted.
    """

    sweep_id: str | None = None
    plans: list[Plan] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    exceeded: list[str] = field(default_factory=list)
    held_back: dict[str, Mapping[HeldBack, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SweepOrder:
    """How to sweep.

    Attributes:
        parameters: The policy.
        retention: For how long what was evicted can be restored; zero deletes it at once.
        lease_term: For how long a sweeper that says nothing is waited for by the next one.
    """

    parameters: PolicyParameters
    retention: timedelta
    lease_term: timedelta = timedelta(minutes=1)


class Sweeper:
    """Sweeps: plans under the stream's lock, and carries the plan out.

    Args:
        database: Where the log lies.
        projector: Gives the locks and states.
        appender: In whose name.
        open_store: Opens a store.
        leases: Sees to it that one process sweeps at a time.
        software_version: Is recorded with each sweep.
    """

    def __init__(
        self,
        database: Database,
        projector: Projector,
        appender: Appender,
        open_store: OpenStore,
        leases: Leases,
        software_version: str,
    ) -> None:
        self._database = database
        self._projector = projector
        self._appender = appender
        self._open_store = open_store
        self._leases = leases
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
    def _running(self, order: SweepOrder, progress: Progress | None) -> Iterator[_Run]:
        with self._leases.held(SWEEP_LEASE, order.lease_term) as lease:
            with self._database.read() as connection:
                deployment = self._projector.look_at_deployment(connection)
            streams = FencedStreams(self._projector, lease)
            yield _Run(
                streams=streams,
                projector=self._projector,
                appender=self._appender,
                evictor=Evictor(self._appender, streams),
                deployment=deployment,
                stores=Stores(deployment, self._open_store),
                order=order,
                progress=progress or Silent(),
                software_version=self._software_version,
            )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One sweep under way.

    Attributes:
        set_aside: Checkpoints that could not even be looked at in this sweep.
    """

    streams: FencedStreams
    projector: Projector
    appender: Appender
    evictor: Evictor
    deployment: DeploymentState
    stores: Stores
    order: SweepOrder
    progress: Progress
    software_version: str
    report: SweepReport = field(default_factory=SweepReport)
    set_aside: set[str] = field(default_factory=set)

    def sweep(self, experiment_id: str) -> None:
        """Sweep one experiment."""
        if self.evictor.has_work(experiment_id, self.stores, self.order.retention):
            self._start()
            self.evictor.settle_claims(experiment_id, self.stores, self.report.tally, self.progress.moved)
        plan = self.plan(experiment_id)
        if plan is not None and plan.evictions:
            self.carry_out(plan)
        self.purge(experiment_id)
        self._note_excess(experiment_id)

    def plan(self, experiment_id: str) -> Plan | None:
        """Plan under the lock, and store what the projections have caught up with."""
        limit = self.deployment.limit_for(experiment_id)
        with self.streams.locked(experiment_id) as locked:
            self.projector.store(locked)
            if limit is None or locked.state.experiment is None:
                return None
            return plan_experiment(
                locked.state, limit, self.order.parameters, self.appender.clock.now(), self._may_evict
            )

    def carry_out(self, plan: Plan) -> None:
        """Claim what `plan` names, and move it to the trash."""
        self._start()
        wanted: Plan | None = plan
        listed: list[tuple[Candidate, Manifest]] = []
        while wanted is not None and wanted.evictions:
            listed, all_there = self._list(wanted)
            if all_there:
                break
            # What is missing or cannot be read leaves room for others, or makes them unnecessary.
            wanted = self.plan(plan.experiment_id)
        if wanted is None or not wanted.evictions:
            return
        self.report.plans.append(wanted)
        self.progress.expect(len(listed))
        self._claim(wanted, listed)
        self.evictor.settle_claims(plan.experiment_id, self.stores, self.report.tally, self.progress.moved)

    def purge(self, experiment_id: str) -> None:
        """Delete for good what is due."""
        self.evictor.purge_trash(experiment_id, self.stores, self.order.retention, self.report.tally)

    def finish(self) -> None:
        """Record the end, where there was anything to record."""
        if self.report.sweep_id is None:
            return
        tally = self.report.tally
        self._record(
            SweepFinished(
                sweep_id=self.report.sweep_id,
                decided=tally.decided,
                evicted=tally.evicted,
                failed=tally.failed,
                cancelled=tally.cancelled,
                freed_bytes=tally.freed_bytes,
                exceeded=tuple(self.report.exceeded),
            )
        )

    def _may_evict(self, uri: str) -> bool:
        return uri not in self.set_aside and self.stores.root_of(uri) is not None

    def _start(self) -> None:
        if self.report.sweep_id is not None:
            return
        self.report.sweep_id = new_id()
        self._record(
            SweepStarted(
                sweep_id=self.report.sweep_id,
                parameters=self.order.parameters,
                software_version=self.software_version,
            )
        )

    def _record(self, payload: Event) -> None:
        self.streams.lease.keep()
        prepared = Prepared.of(self.appender.event(DEPLOYMENT_STREAM, payload))
        with self.appender.log.locked([DEPLOYMENT_STREAM]) as streams:
            self.appender.log.add(streams[DEPLOYMENT_STREAM], prepared)
            self.projector.store_deployment(streams[DEPLOYMENT_STREAM])

    def _list(self, plan: Plan) -> tuple[list[tuple[Candidate, Manifest]], bool]:
        """List what the planned checkpoints consist of, without any lock.

        Returns:
            The manifests, and whether there is one for each eviction of the plan.
        """
        listed: list[tuple[Candidate, Manifest]] = []
        missing: list[Candidate] = []
        for candidate in plan.evictions:
            uri = candidate.uri
            self.streams.lease.keep()
            try:
                manifest = self.stores.holding(uri).manifest(uri)
                if candidate.is_running and manifest.written_after(candidate.saved_at):
                    # Trials that keep a few checkpoints write to the places of the oldest in turn.
                    self.set_aside.add(uri)
                else:
                    listed.append((candidate, manifest))
            except CheckpointGone:
                missing.append(candidate)
            except (StoreError, PathRefused) as error:
                self.set_aside.add(uri)
                self.report.tally.failed += 1
                self.report.tally.errors.append(str(error))
        if missing:
            self._record_missing(plan.experiment_id, missing)
        return listed, len(listed) == len(plan.evictions)

    def _record_missing(self, experiment_id: str, missing: Sequence[Candidate]) -> None:
        with self.streams.locked(experiment_id) as locked:
            for candidate in missing:
                # Its trial may have been resumed meanwhile and have written it again.
                if objection(locked.state, candidate.uri, candidate.saved_position) is None:
                    self.appender.add(locked, CheckpointMissing(trial_id=candidate.trial_id, uri=candidate.uri))
            self.projector.store(locked)

    def _claim(self, plan: Plan, listed: Sequence[tuple[Candidate, Manifest]]) -> None:
        """Commit the decisions with all their inputs, before any byte is touched."""
        with self.streams.locked(plan.experiment_id) as locked:
            self.stores.look_at(self.projector.held_deployment(locked.stream.connection))
            for place, (candidate, manifest) in enumerate(listed, start=1):
                root = self.stores.root_of(candidate.uri)
                if root is None or not _may_be_claimed(locked.state, candidate, manifest):
                    continue
                self.appender.add(locked, self._decided(plan, place, candidate, manifest, root))
                self.report.tally.decided += 1
            self.projector.store(locked)

    def _decided(self, plan: Plan, place: int, candidate: Candidate, manifest: Manifest, root: str) -> EvictionDecided:
        return EvictionDecided(
            decision_id=new_id(),
            sweep_id=self.report.sweep_id or "",
            trial_id=candidate.trial_id,
            uri=candidate.uri,
            store_uri=root,
            checkpoint_position=candidate.saved_position,
            size_bytes=manifest.size_bytes,
            manifest=manifest,
            reason=candidate.reason,
            state_position=plan.state_position,
            place=place,
            limit_scope=plan.limit.scope,
            limit_high=plan.limit.high,
            limit_low=plan.limit.low,
            usage=plan.usage,
            parameters=self.order.parameters,
            level=candidate.level,
            metric=candidate.metric,
            rank=candidate.rank,
            rung_length=candidate.rung_length,
            promotion_quantile=candidate.promotion_quantile,
            estimator=candidate.estimator,
            estimator_ones=candidate.estimator_ones,
            estimator_total=candidate.estimator_total,
            p_better=candidate.p_better,
            time_ratio=candidate.time_ratio,
            resume_probability=candidate.resume_probability,
            score=candidate.score,
        )

    def _note_excess(self, experiment_id: str) -> None:
        limit = self.deployment.limit_for(experiment_id)
        if limit is None:
            return
        with self.streams.locked(experiment_id) as locked:
            state = locked.state
            if state.usage.held_checkpoints > limit.high:
                self.report.exceeded.append(experiment_id)
                self.report.held_back[experiment_id] = held_back(state, self.appender.clock.now(), self._may_evict)


def _may_be_claimed(state: ExperimentState, candidate: Candidate, manifest: Manifest) -> bool:
    """Tell whether what was planned and listed without the lock still holds under it."""
    checkpoint = state.checkpoints[candidate.uri]
    is_running = state.trials[checkpoint.trial_id].status == "running"
    return (
        checkpoint.state == "stored"
        and objection(state, checkpoint.uri, candidate.saved_position) is None
        and not (is_running and manifest.written_after(checkpoint.saved_at))
    )

"""One sweep under way: plan what has to go, claim it, and have it carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from sqlalchemy import Connection

from quota.domain.deployment import DeploymentState
from quota.domain.events import (
    CheckpointMissing,
    Event,
    EvictionDecided,
    EvictionFailed,
    PolicyParameters,
    SweepFinished,
    SweepStarted,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)
from quota.domain.experiment import ExperimentState, Trial
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.manifest import Manifest
from quota.domain.plan import HeldBack, Plan, held_back, plan_experiment
from quota.domain.policies import Candidate
from quota.errors import ProjectionDiverged
from quota.eventlog.log import Prepared
from quota.projections.projector import Projector
from quota.services.appending import Appender
from quota.services.evicting import Evictor, Tally, objection, said
from quota.services.fencing import FencedStreams
from quota.services.healing import Healer
from quota.services.ids import new_id
from quota.services.listing import Listed, Lister
from quota.services.rescuing import Rescuer
from quota.services.stores import Stores

STATUS_AFTER = {
    TrialStarted.TYPE: "running",
    TrialResumed.TYPE: "running",
    TrialPaused.TYPE: "paused",
    TrialStopped.TYPE: "ended",
    TrialCompleted.TYPE: "ended",
    TrialFailed.TYPE: "ended",
}
"""What a trial does after the last of its events of these types."""

_ERRORS_KEPT = 20
"""How many of a sweep's errors its last event keeps; those about one checkpoint are in its decision too."""


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


@dataclass(slots=True, kw_only=True)
class SweepRun:
    """One sweep under way."""

    streams: FencedStreams
    projector: Projector
    appender: Appender
    evictor: Evictor
    deployment: DeploymentState
    stores: Stores
    lister: Lister
    rescuer: Rescuer
    healer: Healer
    order: SweepOrder
    progress: Progress
    software_version: str
    report: SweepReport = field(default_factory=SweepReport)

    def sweep(self, experiment_id: str) -> None:
        """Sweep one experiment."""
        self.evictor.note_restored(experiment_id, self.stores)
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
                locked.state, limit, self.order.parameters, self.appender.clock.now(), self.lister.may_evict
            )

    def carry_out(self, plan: Plan) -> None:
        """Claim what `plan` names, and move it to the trash."""
        self._start()
        wanted = plan
        listing = self.lister.list(plan)
        while not listing.is_complete:
            # What is missing or cannot be read leaves room for others, or makes them unnecessary.
            self._record_missing(plan.experiment_id, listing.missing)
            self._record_refused(wanted, listing.refused)
            replanned = self.plan(plan.experiment_id)
            if replanned is None:
                return
            wanted, listing = replanned, self.lister.list(replanned)
        if not wanted.evictions:
            return
        self.report.plans.append(wanted)
        self.progress.expect(len(listing.found))
        self._claim(wanted, listing.found)
        self.evictor.settle_claims(plan.experiment_id, self.stores, self.report.tally, self.progress.moved)

    def purge(self, experiment_id: str) -> None:
        """Delete for good what is due."""
        self.evictor.purge_trash(experiment_id, self.stores, self.order.retention, self.report.tally)

    def finish(self) -> None:
        """Record the end, where there was anything to record."""
        if self.report.sweep_id is None:
            return
        tally = self.report.tally
        tally.failed += len(self.lister.failures)
        tally.errors.extend(self.lister.failures.values())
        self._record(
            SweepFinished(
                sweep_id=self.report.sweep_id,
                decided=tally.decided,
                evicted=tally.evicted,
                failed=tally.failed,
                cancelled=tally.cancelled,
                missing=len(tally.missing),
                freed_bytes=tally.freed_bytes,
                exceeded=tuple(self.report.exceeded),
                errors=tuple(said(error) for error in tally.errors[:_ERRORS_KEPT]),
            )
        )

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

    def _record_missing(self, experiment_id: str, missing: Sequence[Candidate]) -> None:
        with self.streams.locked(experiment_id) as locked:
            self.stores.look_at(self.projector.held_deployment(locked.stream.connection))
            for candidate in missing:
                # Its trial may have been resumed meanwhile and have written it again.
                if objection(locked.state, candidate.uri, candidate.saved_position) is not None:
                    continue
                if not self.rescuer.is_found_again(locked, locked.state.checkpoints[candidate.uri], self.stores):
                    event = CheckpointMissing(trial_id=candidate.trial_id, uri=candidate.uri)
                    self.appender.add(locked, event)
                    self.report.tally.note(event)
            self.projector.store(locked)

    def _record_refused(self, plan: Plan, refused: Sequence[Listed]) -> None:
        """Record decisions that failed before anything was claimed, so that they are not tried again at once."""
        with self.streams.locked(plan.experiment_id) as locked:
            self.stores.look_at(self.projector.held_deployment(locked.stream.connection))
            for listed in refused:
                decided = self._decided(locked.stream.connection, locked.state, plan, listed)
                if decided is None:
                    continue
                ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
                failed = EvictionFailed(**ids, step="list", error=said(listed.error or ""))
                self.appender.add(locked, decided)
                self.appender.add(locked, failed)
                self.report.tally.decided += 1
                self.report.tally.note(failed)
            self.projector.store(locked)

    def _claim(self, plan: Plan, found: Sequence[Listed]) -> None:
        """Commit the decisions with all their inputs, before any byte is touched."""
        with self.streams.locked(plan.experiment_id) as locked:
            self.stores.look_at(self.projector.held_deployment(locked.stream.connection))
            for listed in found:
                decided = self._decided(locked.stream.connection, locked.state, plan, listed)
                if decided is not None:
                    self.appender.add(locked, decided)
                    self.report.tally.decided += 1
            self.projector.store(locked)

    def _require_status(self, connection: Connection, trial: Trial, experiment_id: str) -> None:
        """Ask the log itself, once more, what a trial does whose checkpoint is to go.

        Raises:
            ProjectionDiverged: the rows say something else; somebody has changed them.
        """
        last = self.appender.log.last_type_of_trial(connection, experiment_id, trial.trial_id, STATUS_AFTER)
        by_log = STATUS_AFTER.get(last or "")
        if by_log != ("ended" if trial.has_ended else trial.status):
            raise ProjectionDiverged(
                f"projections of experiment {experiment_id}: trial {trial.trial_id} is {trial.status} by its row, and "
                f"{by_log} by the log; check the log (`ckpt-quota audit verify`), then make them anew "
                "(`ckpt-quota rebuild`)"
            )

    def _decided(
        self, connection: Connection, state: ExperimentState, plan: Plan, listed: Listed
    ) -> EvictionDecided | None:
        """Return the decision, if what was planned and listed without the lock still holds under it."""
        candidate = listed.candidate
        root = self.stores.root_of(candidate.uri)
        if root is None or not _may_be_claimed(state, candidate, listed.manifest):
            return None
        self._require_status(connection, state.trials[candidate.trial_id], state.experiment_id)
        return EvictionDecided(
            decision_id=new_id(),
            sweep_id=self.report.sweep_id or "",
            trial_id=candidate.trial_id,
            uri=candidate.uri,
            store_uri=root,
            checkpoint_position=candidate.saved_position,
            size_bytes=listed.size_bytes,
            manifest=listed.manifest,
            reason=candidate.reason,
            state_position=plan.state_position,
            place=listed.place,
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
                self.report.held_back[experiment_id] = held_back(
                    state, self.appender.clock.now(), self.lister.may_evict
                )


def _may_be_claimed(state: ExperimentState, candidate: Candidate, manifest: Manifest) -> bool:
    """Tell whether a candidate may still be evicted."""
    checkpoint = state.checkpoints[candidate.uri]
    is_running = state.trials[checkpoint.trial_id].status == "running"
    return (
        checkpoint.state == "stored"
        and objection(state, checkpoint.uri, candidate.saved_position) is None
        and not (is_running and manifest.written_after(checkpoint.saved_at))
    )

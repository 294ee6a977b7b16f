"""One sweep under way: plan what has to go, claim it, and have it carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from quota.domain.deployment import Limit
from quota.domain.eligibility import objection
from quota.domain.events import (
    CancelReason,
    CheckpointMissing,
    Event,
    EvictionDecided,
    EvictionFailed,
    SweepFinished,
    SweepStarted,
)
from quota.domain.experiment import ExperimentState
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.parts import parts
from quota.domain.plan import Plan, plan_experiment
from quota.domain.policies import Candidate
from quota.errors import QuotaError
from quota.eventlog.log import Prepared
from quota.projections.projector import LockedExperiment, Projector
from quota.services.appending import Appender
from quota.services.fencing import FencedStreams
from quota.services.healing import Healer
from quota.services.ids import new_id
from quota.services.listing import Listed, Lister
from quota.services.purging import Purger
from quota.services.rescuing import Rescuer
from quota.services.settling import Settler
from quota.services.stores import Stores
from quota.services.sweep_order import Progress, SweepOrder, SweepReport
from quota.services.taken_orphans import is_taken_for_an_orphan
from quota.services.tally import said
from quota.services.trash_keeping import TrashKeeper
from quota.services.trusting import Chains, require_as_logged

LOOKS_A_LOCK = 32
"""How many checkpoints are looked at while a stream's lock is held."""

_ROUNDS = 3
"""How often at most one experiment is planned anew in a sweep; what arrives after that is the next one's."""

_ERRORS_KEPT = 20
"""How many of a sweep's errors its last event keeps; those about one checkpoint are in its decision too."""


@dataclass(slots=True, kw_only=True)
class SweepRun:
    """One sweep under way. It stops after the batch in hand once `should_stop`; the next one finishes what is open.

    Attributes:
        claimed: How many checkpoints it has claimed.
        claimed_bytes: Their sizes.
    """

    streams: FencedStreams
    projector: Projector
    appender: Appender
    settler: Settler
    purger: Purger
    trash_keeper: TrashKeeper
    stores: Stores
    chains: Chains
    lister: Lister
    rescuer: Rescuer
    healer: Healer
    order: SweepOrder
    progress: Progress
    should_stop: Callable[[], bool]
    software_version: str
    report: SweepReport
    claimed: int = field(default=0, init=False)
    claimed_bytes: int = field(default=0, init=False)

    def sweep(self, experiment_id: str) -> None:
        """Sweep one experiment."""
        self.trash_keeper.look_after_trash(experiment_id)
        if self.settler.has_claims(experiment_id):
            self._begin(experiment_id)
            self.settler.settle_claims(experiment_id, self.progress.moved)
        # Tuners go on meanwhile, so that there may be more to evict than when it was planned.
        for _ in range(_ROUNDS):
            plan = self.plan(experiment_id)
            if plan is None or not plan.evictions or self.should_stop():
                break
            self.carry_out(plan)
        self.purge(experiment_id)
        self._note_excess(experiment_id)

    def plan(self, experiment_id: str) -> Plan | None:
        """Plan under the lock what is left to this run, and store what the projections have caught up with."""
        with self.streams.locked(experiment_id) as locked:
            self.projector.store(locked)
            plan = self._whole_plan(locked)
        if plan is None:
            return None
        left = plan.within(self.order.most_evictions - self.claimed, self.order.most_evicted_bytes - self.claimed_bytes)
        self.report.is_capped = self.report.is_capped or len(left.evictions) < len(plan.evictions)
        return left

    def _whole_plan(self, locked: LockedExperiment) -> Plan | None:
        limit = self._limit(locked)
        if limit is None or locked.state.experiment is None:
            return None
        return plan_experiment(
            locked.state, limit, self.order.parameters, self.appender.clock.now(), self.lister.obstacle
        )

    def carry_out(self, plan: Plan) -> None:
        """Claim what `plan` names, and move it to the trash."""
        experiment_id, wanted = plan.experiment_id, plan
        while wanted.evictions and not self.should_stop():
            self._begin(experiment_id)
            listing = self.lister.list(wanted)
            if listing.is_complete:
                if self._claim(wanted, listing.found):
                    self.report.plans.append(wanted)
                    self.settler.settle_claims(experiment_id, self.progress.moved)
                    return
            else:
                # What is missing or cannot be read leaves room for others, or makes them unnecessary.
                self._record_missing(experiment_id, listing.missing)
                self._record_refused(wanted, listing.refused)
            replanned = self.plan(experiment_id)
            if replanned is None:
                return
            wanted = replanned

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
        tally.failed += len(self.stores.suspended)
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
                exceeded=tuple(self.report.exceeded),
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

    def _record_missing(self, experiment_id: str, missing: Sequence[Candidate]) -> None:
        for part in parts(missing, LOOKS_A_LOCK):
            with self.streams.locked(experiment_id) as locked:
                self.look_at_stores(locked)
                for candidate in part:
                    self._record_if_missing(locked, candidate)
                self.projector.store(locked)

    def _record_if_missing(self, locked: LockedExperiment, candidate: Candidate) -> None:
        if is_taken_for_an_orphan(locked.stream.connection, candidate.uri):
            # It was taken for an orphan before it was reported, and is on its way back.
            self.lister.leave_alone(candidate.uri)
            return
        checkpoint = locked.state.checkpoints[candidate.uri]
        # Its trial may have been resumed meanwhile and have written it again.
        if checkpoint.state != "stored" or _objection(locked.state, candidate) is not None:
            return
        self.streams.lease.require(locked.stream.connection)
        if not self.rescuer.is_found_again(locked, checkpoint, self.stores):
            event = CheckpointMissing(trial_id=candidate.trial_id, uri=candidate.uri)
            self.appender.add(locked, event)
            self.report.tally.note(event)

    def _record_refused(self, plan: Plan, refused: Sequence[Listed]) -> None:
        """Record decisions that failed before anything was claimed, so that they are not tried again at once."""
        with self.streams.locked(plan.experiment_id) as locked:
            self.look_at_stores(locked)
            self.require_as_logged(locked, _trials(refused))
            for listed in refused:
                decided = self._decided(locked.state, plan, listed)
                if decided is None:
                    continue
                ids = {"decision_id": decided.decision_id, "trial_id": decided.trial_id}
                failed = EvictionFailed(**ids, step="list", error=said(listed.error or ""))
                self.appender.add(locked, decided)
                self.appender.add(locked, failed)
                self.report.tally.decided += 1
                self.report.tally.note(failed)
            self.projector.store(locked)

    def _claim(self, plan: Plan, found: Sequence[Listed]) -> bool:
        """Commit the decisions with all their inputs, before any byte is touched.

        Returns:
            False where the limit is another one by now, so that the plan has to be made anew.
        """
        with self.streams.locked(plan.experiment_id) as locked:
            self.look_at_stores(locked)
            limit = self._limit(locked)
            if limit is None or limit.numbers != plan.limit.numbers:
                return False
            self.chains.require_rest(locked.stream)
            self.require_as_logged(locked, _trials(found))
            claimed = claimed_bytes = 0
            for listed in found:
                # Trials may have ended since it was planned, and hold less.
                if locked.state.usage.held_checkpoints <= limit.low:
                    break
                # A checkpoint may be larger than its trial has said.
                if self.claimed_bytes + claimed_bytes >= self.order.most_evicted_bytes:
                    self.report.is_capped = True
                    break
                decided = self._decided(locked.state, plan, listed)
                if decided is not None:
                    self.appender.add(locked, decided)
                    claimed += 1
                    claimed_bytes += decided.size_bytes
            self.projector.store(locked)
        self.claimed += claimed
        self.claimed_bytes += claimed_bytes
        self.report.tally.decided += claimed
        self.progress.expect(claimed)
        return True

    def _limit(self, locked: LockedExperiment) -> Limit | None:
        """Return the limit in force, which nobody changes before the lock is given back."""
        deployment = self.projector.held_deployment(locked.stream.connection)
        return deployment.limit_for(locked.state.experiment_id)

    def look_at_stores(self, locked: LockedExperiment) -> None:
        """Go by what operators have said about stores, which nobody changes before the lock is given back."""
        self.stores.look_at(self.projector.held_deployment(locked.stream.connection))

    def require_as_logged(self, locked: LockedExperiment, trial_ids: Sequence[str]) -> None:
        """Check trials, and which of their checkpoints are pinned, against the log.

        Raises:
            ProjectionDiverged: the rows say something else; somebody has changed them.
        """
        require_as_logged(self.appender.log, locked.stream.connection, locked.state, trial_ids)

    def _decided(self, state: ExperimentState, plan: Plan, listed: Listed) -> EvictionDecided | None:
        """Return the decision, if what was planned and listed without the lock still holds under it."""
        candidate = listed.candidate
        root = self.stores.root_of(candidate.uri)
        if root is None or not _may_be_claimed(state, plan, candidate):
            return None
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
        with self.streams.locked(experiment_id) as locked:
            plan = self._whole_plan(locked)
        if plan is None or plan.usage <= plan.limit.high:
            return
        # What can still go will, with the next sweep: to be told of is what cannot, and what this one might not do.
        if plan.shortfall or self.report.is_capped or self.should_stop():
            self.report.exceeded.append(experiment_id)
            self.report.held_back[experiment_id] = plan.kept


def _trials(listed: Sequence[Listed]) -> list[str]:
    return [one.candidate.trial_id for one in listed]


def _objection(state: ExperimentState, candidate: Candidate) -> CancelReason | None:
    return objection(state, candidate.uri, candidate.saved_position, candidate.reason)


def _may_be_claimed(state: ExperimentState, plan: Plan, candidate: Candidate) -> bool:
    """Tell whether a candidate may still be evicted.

    What its trial has saved since the plan was made has not been compared with it: it may be the same place.
    """
    checkpoint = state.checkpoints[candidate.uri]
    own = (state.checkpoints[uri] for uri in state.trial_uris[candidate.trial_id])
    return (
        checkpoint.state == "stored"
        and all(one.saved_position <= plan.state_position for one in own)
        and _objection(state, candidate) is None
    )

"""Claiming what is planned: looked at first, then decided with all inputs before any byte is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quota.domain.eligibility import objection
from quota.domain.events import CancelReason, CheckpointMissing, EvictionDecided, EvictionFailed
from quota.domain.experiment import ExperimentState
from quota.domain.parts import parts
from quota.domain.plan import Plan
from quota.domain.policies import VERSIONS, Candidate
from quota.projections.projector import LockedExperiment, Projector
from quota.services.appending import Appender
from quota.services.fencing import FencedStreams
from quota.services.ids import new_id
from quota.services.listing import Listed, Lister
from quota.services.objecting import pinning
from quota.services.rescuing import Rescuer
from quota.services.stores import Stores
from quota.services.sweep_order import Progress, SweepOrder, SweepReport
from quota.services.taken_orphans import is_taken_for_an_orphan
from quota.services.tally import said
from quota.services.trusting import Chains, require_as_logged

LOOKS_A_LOCK = 32
"""How many checkpoints are looked at while a stream's lock is held."""


@dataclass(slots=True, kw_only=True)
class Claimer:
    """Claims for one sweep what its plans name, as far as that still holds under the stream's lock.

    Attributes:
        claimed: How many checkpoints it has claimed.
        claimed_bytes: Their sizes.
    """

    streams: FencedStreams
    projector: Projector
    appender: Appender
    stores: Stores
    chains: Chains
    lister: Lister
    rescuer: Rescuer
    order: SweepOrder
    progress: Progress
    report: SweepReport
    claimed: int = field(default=0, init=False)
    claimed_bytes: int = field(default=0, init=False)

    def claim(self, plan: Plan) -> bool:
        """Look at what a plan names, and claim it.

        Returns:
            False where the plan has to be made anew: something of it is missing or cannot be read, which leaves room
            for others or makes them unnecessary; or the limit, or a reserve, is another one by now. Of what was
            approved nothing is chosen anew: what of it can be claimed is.
        """
        listing = self.lister.list(plan)
        if listing.is_complete:
            return self._claim(plan, listing.found)
        self._record_missing(plan.experiment_id, listing.missing)
        self._record_refused(plan, listing.refused)
        return self.order.approval is not None and self._claim(plan, listing.found)

    def left_of(self, plan: Plan) -> Plan:
        """Return a plan as far as this run may carry it out, and note where that is not all of it."""
        left = plan.within(self.order.most_evictions - self.claimed, self.order.most_evicted_bytes - self.claimed_bytes)
        self.report.is_capped = self.report.is_capped or len(left.evictions) < len(plan.evictions)
        return left

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
        if checkpoint.state != "stored" or self._objection(locked, candidate) is not None:
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
                decided = self._decided(locked, plan, listed)
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
            False where the limit, or a reserve, is another one by now, so that the plan has to be made anew.
        """
        with self.streams.locked(plan.experiment_id) as locked:
            self.look_at_stores(locked)
            deployment = self.projector.held_deployment(locked.stream.connection)
            limit = deployment.limit_of(plan.experiment_id, plan.limit.scope, plan.limit.measure)
            if limit is None or limit.numbers != plan.limit.numbers:
                return False
            if plan.reserves is not None and plan.reserves != deployment.all_reserves:
                return False
            self.chains.require_rest(locked.stream)
            self.require_as_logged(locked, _trials(found))
            claimed = claimed_bytes = 0
            for listed in found:
                # Trials may have ended since it was planned, and hold less.
                if _holds_by_now(locked.state, plan):
                    break
                # A checkpoint may be larger than its trial has said.
                if self.claimed_bytes + claimed_bytes >= self.order.most_evicted_bytes:
                    self.report.is_capped = True
                    break
                decided = self._decided(locked, plan, listed)
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

    def look_at_stores(self, locked: LockedExperiment) -> None:
        """Go by what operators have said about stores, which nobody changes before the lock is given back."""
        self.stores.look_at(self.projector.held_deployment(locked.stream.connection))

    def require_as_logged(self, locked: LockedExperiment, trial_ids: Sequence[str]) -> None:
        """Check trials, and which of their checkpoints are pinned, against the log.

        Raises:
            ProjectionDiverged: the rows say something else; somebody has changed them.
        """
        require_as_logged(self.appender.log, locked.stream.connection, locked.state, trial_ids)

    def _decided(self, locked: LockedExperiment, plan: Plan, listed: Listed) -> EvictionDecided | None:
        """Return the decision, if what was planned and listed without the lock still holds under it."""
        candidate = listed.candidate
        root = self.stores.root_of(candidate.uri)
        if root is None or not self._may_be_claimed(locked, plan, candidate):
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
            limit_measure=plan.limit.measure,
            limit_high=plan.limit.high,
            limit_low=plan.limit.low,
            usage=plan.usage,
            usage_after=plan.after,
            planned_at=plan.planned_at,
            policy_version=VERSIONS[self.order.parameters.policy],
            parameters=self.order.parameters,
            level=candidate.level,
            metric=candidate.metric,
            rank=candidate.rank,
            rung_length=candidate.rung_length,
            promotion_quantile=candidate.promotion_quantile,
            estimator=candidate.estimator,
            estimator_ones=candidate.estimator_ones,
            estimator_total=candidate.estimator_total,
            rank_of_equals=candidate.rank_of_equals,
            arrivals_better=candidate.arrivals_better,
            p_better=candidate.p_better,
            time_ratio=candidate.time_ratio,
            resume_probability=candidate.resume_probability,
            kept_resource=candidate.kept_resource,
            score=candidate.score,
            seconds_per_resource=candidate.seconds_per_resource,
            cost_seconds=candidate.cost_seconds,
            runner_up_uri=None if plan.runner_up is None else plan.runner_up.uri,
            runner_up_score_seconds=None if plan.runner_up is None else plan.runner_up.score_seconds,
        )

    def _objection(self, locked: LockedExperiment, candidate: Candidate) -> CancelReason | None:
        deployment = self.projector.held_deployment(locked.stream.connection)
        is_pinned = pinning(locked.state, deployment)
        return objection(locked.state, candidate.uri, candidate.saved_position, candidate.reason, is_pinned)

    def _may_be_claimed(self, locked: LockedExperiment, plan: Plan, candidate: Candidate) -> bool:
        """Tell whether a candidate may still be evicted.

        What its trial has saved since the plan was made has not been compared with it: it may be the same place.
        """
        state = locked.state
        if not self.order.may_evict(state.experiment_id, candidate.uri, candidate.saved_position):
            return False
        checkpoint = state.checkpoints[candidate.uri]
        own = (state.checkpoints[uri] for uri in state.trial_uris[candidate.trial_id])
        return (
            checkpoint.state == "stored"
            and all(one.saved_position <= plan.state_position for one in own)
            and self._objection(locked, candidate) is None
        )


def _trials(listed: Sequence[Listed]) -> list[str]:
    return [one.candidate.trial_id for one in listed]


def _holds_by_now(state: ExperimentState, plan: Plan) -> bool:
    """Tell whether a limit is at its low watermark by now, as far as one experiment's state says so."""
    if plan.limit.parsed_scope.is_shared:
        return False
    usage = state.usage
    if plan.limit.measure == "checkpoints":
        return usage.held_checkpoints <= plan.limit.low
    return usage.used_bytes - usage.claimed_bytes <= plan.limit.low

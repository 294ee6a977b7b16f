"""Events of the eviction protocol: what was decided, with all its inputs, and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from quota.domain.events.base import Event
from quota.domain.events.deployment import PolicyParameters
from quota.domain.events.limits import LimitMeasure
from quota.domain.manifest import Manifest

CancelReason = Literal[
    "resumed", "ended", "needed", "saved_again", "pinned", "missing", "store_removed", "reported", "not_called_for"
]
EvictionReason = Literal["paused", "superseded", "stopped", "failed", "completed", "orphan"]


class DecisionEvent(Event, frozen=True, kw_only=True):
    """Base of the events about one decision.

    Attributes:
        decision_id: UUID of the decision; also the name of its claim in the store's trash.
        trial_id: The trial whose checkpoint it is about.
    """

    decision_id: str
    trial_id: str

    @property
    def about_trial(self) -> str | None:
        """The trial whose checkpoint it is about."""
        return self.trial_id


class EvictionDecided(DecisionEvent, frozen=True, kw_only=True):
    """A checkpoint is claimed for eviction. Committed before any byte is touched.

    Attributes:
        sweep_id: The sweep that decided.
        uri: The checkpoint's location.
        store_uri: Root of the store that it lies in, and in whose trash it will.
        checkpoint_position: Position of the event that saved it: a later save to the same place is another
            checkpoint, and not claimed.
        size_bytes: Size of all that `manifest` names.
        manifest: What it consists of. Nothing else is deleted.
        reason: `paused` (its trial may be missed least), `superseded` (its trial has a newer one), `stopped`, `failed`
            or `completed` (its trial has ended so) or `orphan` (no trial has ever reported it, and an operator wanted
            it gone).
        state_position: Position of the stream up to which the inputs below reflect it.
        place: Place in the order of eviction, from 1.
        limit_scope: The limit that called for it; none calls for an orphan's, and the next five are absent too.
        limit_measure: What it counts; absent in older logs, whose limits all counted `checkpoints`.
        limit_high: Its high watermark.
        limit_low: Its low watermark.
        usage: What was counted when the sweep planned.
        usage_after: What would count once the whole plan is carried out, this decision and others under that limit.
            This, the next two and those about the runner-up are absent in older logs.
        planned_at: The time that the sweep planned for: by this one its inputs recompute.
        policy_version: Which version of the policy scored it (`quota.domain.policies.VERSIONS`).
        parameters: By which rule it was chosen.
        level: Level that the trial is paused at.
        metric: The value that it is ranked by there.
        rank: Its rank in the rung, from 1.
        rung_length: Entries of the rung, promoted ones included.
        promotion_quantile: The rung's.
        estimator: Whether the `rung`'s own estimator or the `overall` one was used.
        estimator_ones: Data of that estimator that were better or equal.
        estimator_total: All its data.
        rank_of_equals: Rank of the best entry with the same metric. This and the next are inputs of `expected-cost`.
        arrivals_better: The chance of each trial that was on its way to the rung to rank better there.
        p_better: Chance that an arrival ranks better: the estimator's posterior mean; by `expected-cost`, what is
            expected of arrivals that come after those.
        time_ratio: Time remaining / time elapsed.
        resume_probability: Probability that the trial is resumed.
        kept_resource: Resource that the trial would not have to consume again, as an older checkpoint of it is pinned;
            absent in older logs.
        score: Expected resource lost; by `expected-cost`, for each arrival at the rung that the place is kept.
        seconds_per_resource: Seconds that a unit of resource takes in this experiment, as its own reports or, before
            there are any, those of others say; absent in older logs, and where nothing is lost.
        cost_seconds: Expected seconds of lost work, by which evictions are compared across experiments; absent in
            older logs.
        runner_up_uri: The place of what would have gone next under that limit, of whatever experiment; absent where
            nothing else could have gone.
        runner_up_score_seconds: Its score in seconds, by which it was compared; absent for policies that score
            nothing.
    """

    TYPE: ClassVar[str] = "eviction_decided"

    sweep_id: str
    uri: str
    store_uri: str
    checkpoint_position: int
    size_bytes: int
    manifest: Manifest
    reason: EvictionReason
    state_position: int
    place: int
    limit_scope: str | None = None
    limit_measure: LimitMeasure | None = None
    limit_high: int | None = None
    limit_low: int | None = None
    usage: int | None = None
    usage_after: int | None = None
    planned_at: datetime | None = None
    policy_version: int | None = None
    parameters: PolicyParameters | None = None
    level: int | None = None
    metric: float | None = None
    rank: int | None = None
    rung_length: int | None = None
    promotion_quantile: float | None = None
    estimator: Literal["rung", "overall"] | None = None
    estimator_ones: int | None = None
    estimator_total: int | None = None
    rank_of_equals: int | None = None
    arrivals_better: tuple[float, ...] | None = None
    p_better: float | None = None
    time_ratio: float | None = None
    resume_probability: float | None = None
    kept_resource: int | None = None
    score: float | None = None
    seconds_per_resource: float | None = None
    cost_seconds: float | None = None
    runner_up_uri: str | None = None
    runner_up_score_seconds: float | None = None


class CheckpointTrashed(DecisionEvent, frozen=True, kw_only=True):
    """The store has moved a claimed checkpoint to its trash. It can be restored."""

    TYPE: ClassVar[str] = "checkpoint_trashed"


class PurgeDecided(DecisionEvent, frozen=True, kw_only=True):
    """A trashed checkpoint is about to be deleted for good. From here on a resume is told that it is gone."""

    TYPE: ClassVar[str] = "purge_decided"


class CheckpointPurged(DecisionEvent, frozen=True, kw_only=True):
    """An evicted checkpoint is gone for good.

    Attributes:
        freed_bytes: Size of all that the manifest names; none of it is left.
    """

    TYPE: ClassVar[str] = "checkpoint_purged"

    freed_bytes: int


class EvictionFailed(DecisionEvent, frozen=True, kw_only=True):
    """The store could not do a decision's next step.

    Attributes:
        step: Which step it was. `list`: the store did not tell what the checkpoint consists of, and the decision has no
            manifest; `trash`: the store did not move it. After both it is where it was, and free again. `look`: the
            store did not even tell whether a sweep that was killed has moved it; the claim stays. `purge`: it stays in
            the trash, and is tried again. `forbidden`: nobody may delete it, so what the store has of it stays in the
            trash until an operator has that tried again.
        error: What the store said.
    """

    TYPE: ClassVar[str] = "eviction_failed"

    step: Literal["list", "trash", "look", "purge", "forbidden"]
    error: str


class EvictionCancelled(DecisionEvent, frozen=True, kw_only=True):
    """A claim was given up before the store was asked to act.

    Attributes:
        reason: `resumed` or `ended`: its trial was, or has; `needed`: it is not superseded any more, since the later
            one is gone, or is not at its place; `saved_again`: its trial has written another one there; `pinned`;
            `missing`: there is nothing at its place; `store_removed`: deletion is no longer allowed there; `reported`:
            a trial has said since that it has saved a checkpoint where an orphan was, around it or within it;
            `not_called_for`: the limit holds without it by now, or is another one.
    """

    TYPE: ClassVar[str] = "eviction_cancelled"

    reason: CancelReason


class CheckpointRestored(DecisionEvent, frozen=True, kw_only=True):
    """A trashed checkpoint is back at its place."""

    TYPE: ClassVar[str] = "checkpoint_restored"

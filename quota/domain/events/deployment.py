"""Events of the stream `_deployment`: what belongs to no experiment. Those about limits are in `limits`."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec

from quota.domain.events.base import Event, Quantile, SizeBytes
from quota.domain.identifiers import event_id_problem
from quota.domain.locations import location_problem
from quota.domain.refusal import Refusal, RefusalKind


class StoreAdded(Event, frozen=True, kw_only=True):
    """An operator allowed deletion below a root. Added again, a root has a new mark from then on.

    Attributes:
        uri: The root, e.g. `file:///scratch/hpo`.
        store_id: UUID that the root is marked with: where the mark is missing, some other place has taken the root's
            name, e.g. the bare mount point of a disk that is not mounted.
    """

    TYPE: ClassVar[str] = "store_added"

    uri: str
    store_id: str

    def refusal(self) -> Refusal | None:
        """Check the root and its id."""
        problem = location_problem(self.uri)
        if problem is not None:
            return Refusal(RefusalKind.PATH, "uri", self.uri, problem)
        problem = event_id_problem(self.store_id)
        return None if problem is None else Refusal(RefusalKind.IDENTITY, "store_id", self.store_id, problem)


class StoreRemoved(Event, frozen=True, kw_only=True):
    """An operator forbade deletion below a root.

    Attributes:
        uri: The root, as it was added.
    """

    TYPE: ClassVar[str] = "store_removed"

    uri: str


class ClockAccepted(Event, frozen=True, kw_only=True):
    """An operator said that the present time is right, though the log has events of a later one, or the clock was set.

    Attributes:
        until: Recorded times up to this one say nothing about the clock.
    """

    TYPE: ClassVar[str] = "clock_accepted"

    until: datetime


class PolicyParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By which rule a sweep chooses, with all that the rule depends on.

    Attributes:
        policy: Its name.
        approx_steps: Most steps of the first-passage recursion.
        prior_mean: Mean of the estimators' Beta prior.
        prior_size: Effective sample size of that prior.
        min_data_at_rung: From how many data on a rung's own estimator is used.
        seed: What the policy `random` draws by; None for all others.
        keep_completed: How many completed trials of an experiment, the best ones, keep their newest checkpoint.
        min_age_seconds: How old a checkpoint is at least before it is evicted.
        finished_retention_seconds: For how long the checkpoints of a finished experiment are kept before they cost
            nothing. Older logs have no such time, and the policies of theirs took a trial of a finished experiment for
            one that is never resumed.
    """

    policy: Literal["syne-tune", "expected-cost", "by_level", "random"] = "syne-tune"
    approx_steps: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 25
    prior_mean: Quantile = 0.33
    prior_size: Annotated[float, msgspec.Meta(gt=0)] = 2.0
    min_data_at_rung: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 5
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None = None
    keep_completed: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 1
    min_age_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    finished_retention_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def refusal(self) -> Refusal | None:
        """Check what types do not: a finite prior, and a seed just where one is used."""
        if not math.isfinite(self.prior_size):
            reason = "the prior's size must be a finite number above 0"
            return Refusal(RefusalKind.NUMBER, "prior_size", self.prior_size, reason)
        for name in ("min_age_seconds", "finished_retention_seconds"):
            if not math.isfinite(getattr(self, name)):
                return Refusal(RefusalKind.NUMBER, name, getattr(self, name), "this must be a finite number of seconds")
        if (self.policy == "random") != (self.seed is not None):
            reason = "the policy `random` needs a seed, and no other policy takes one"
            return Refusal(RefusalKind.NUMBER, "seed", self.seed, reason)
        return None


class SweepStarted(Event, frozen=True, kw_only=True):
    """A sweep begins.

    Attributes:
        sweep_id: UUID of the sweep.
        parameters: By which rule it chooses.
        software_version: Version of this package.
        plan_made_at: Where it applies a saved plan, the time that the plan was made for: by this one, and not by that
            of the decisions, their inputs recompute.
        plan_sha256: Digest of that plan's file, in hexadecimal.
    """

    TYPE: ClassVar[str] = "sweep_started"

    sweep_id: str
    parameters: PolicyParameters
    software_version: str
    plan_made_at: datetime | None = None
    plan_sha256: str | None = None


class SweepFinished(Event, frozen=True, kw_only=True):
    """A sweep has ended.

    Attributes:
        sweep_id: UUID of the sweep.
        decided: How many evictions it decided.
        evicted: How many checkpoints it took away, those of earlier sweeps' open claims included.
        failed: How many evictions the store refused.
        cancelled: How many evictions lost their reason before the store was asked.
        missing: How many checkpoints were not where the log said they were.
        freed_bytes: Bytes freed by purging.
        exceeded: Ids of the experiments whose own limits still do not hold, then scopes of those that they share.
        errors: The first of what stores said when they refused, and of why paused trials' checkpoints were left alone.
    """

    TYPE: ClassVar[str] = "sweep_finished"

    sweep_id: str
    decided: SizeBytes
    evicted: SizeBytes
    failed: SizeBytes
    cancelled: SizeBytes
    missing: SizeBytes
    freed_bytes: SizeBytes
    exceeded: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

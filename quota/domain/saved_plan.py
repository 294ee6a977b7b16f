"""A plan as it is kept for whoever reads it before a sweep applies it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import msgspec

from quota.domain.approval import Approval
from quota.domain.events import EvictionReason, LimitMeasure, PolicyParameters
from quota.domain.events.base import MAX_INTEGER
from quota.domain.plan import Plan, SharedPlan
from quota.domain.policies import Candidate

FORMAT = 1

Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is read as strictly as it is written."""


class SavedHead(_Saved, frozen=True, kw_only=True):
    """The end of a stream when the plan was made.

    Attributes:
        experiment_id: The stream: `_deployment`, or one of the experiments.
        position: Position of its last event; 0 where it had none.
        hash: That event's hash, in hexadecimal.
    """

    experiment_id: str
    position: Number
    hash: Digest


class SavedEviction(_Saved, frozen=True, kw_only=True):
    """A checkpoint that goes.

    Attributes:
        trial_id: Its trial.
        uri: Its place.
        checkpoint_position: Position of the event that saved it: a later save to that place is another checkpoint.
        reason: Why it goes.
        size_bytes: Its size.
        cost_seconds: Expected seconds of lost work; None where the policy scores nothing.
    """

    trial_id: str
    uri: str
    checkpoint_position: Number
    reason: EvictionReason
    size_bytes: Number
    cost_seconds: float | None


class SavedPart(_Saved, frozen=True, kw_only=True):
    """What goes from one experiment under one limit.

    Attributes:
        experiment_id: The experiment.
        purges: Decisions whose trash is deleted to make room, whatever its retention.
        evictions: What is evicted, first to last.
    """

    experiment_id: str
    purges: tuple[str, ...]
    evictions: tuple[SavedEviction, ...]


class SavedLimit(_Saved, frozen=True, kw_only=True):
    """A limit, and what goes under it.

    Attributes:
        scope: As it was set.
        measure: As it was set.
        high: As it was set.
        low: As it was set.
        parts: What goes, by experiment.
    """

    scope: str
    measure: LimitMeasure
    high: Number
    low: Number
    parts: tuple[SavedPart, ...]


class SavedPlan(_Saved, frozen=True, kw_only=True):
    """A plan, with all that says whether it still holds.

    Attributes:
        format: Version of this form.
        made_at: The time that it was made for.
        software_version: Version of the software that made it.
        configured_policy: The policy that the settings named then; `parameters` has the one that was asked for.
        parameters: By which rule it was made.
        experiment_ids: From which anything may be evicted.
        heads: The ends of the deployment's stream and of theirs: they tell one database from another.
        limits: The limits that were looked at, and what goes under each.
    """

    format: int
    made_at: Moment
    software_version: str
    configured_policy: str
    parameters: PolicyParameters
    experiment_ids: tuple[str, ...]
    heads: tuple[SavedHead, ...]
    limits: tuple[SavedLimit, ...]

    def approval(self, digest: str) -> Approval:
        """Return what whoever has read this approves by applying it.

        Args:
            digest: SHA-256 of it as it was read, in hexadecimal.
        """
        return Approval(
            made_at=self.made_at,
            digest=digest,
            evictions=frozenset(evictions_of(self.limits)),
            purges=frozenset(purges_of(self.limits)),
        )


def saved_limits(own: Iterable[Plan], shared: Iterable[SharedPlan]) -> tuple[SavedLimit, ...]:
    """Return limits and what goes under them, in the order in which they are settled."""
    parts: dict[tuple[str, LimitMeasure, int, int], list[SavedPart]] = defaultdict(list)
    for plan in own:
        parts[_key(plan)] += _saved_parts([plan])
    for whole in shared:
        parts[_key(whole)] += _saved_parts(whole.parts)
    return tuple(
        SavedLimit(scope=scope, measure=measure, high=high, low=low, parts=tuple(found))
        for (scope, measure, high, low), found in parts.items()
    )


def _key(plan: Plan | SharedPlan) -> tuple[str, LimitMeasure, int, int]:
    return plan.limit.scope, plan.limit.measure, plan.limit.high, plan.limit.low


def _saved_parts(plans: Iterable[Plan]) -> list[SavedPart]:
    return [
        SavedPart(experiment_id=one.experiment_id, purges=one.purges, evictions=tuple(map(_saved, one.evictions)))
        for one in plans
        if one.is_to_be_done
    ]


def _saved(candidate: Candidate) -> SavedEviction:
    return SavedEviction(
        trial_id=candidate.trial_id,
        uri=candidate.uri,
        checkpoint_position=candidate.saved_position,
        reason=candidate.reason,
        size_bytes=candidate.size_bytes,
        cost_seconds=candidate.cost_seconds,
    )


def evictions_of(limits: Iterable[SavedLimit]) -> dict[tuple[str, str, int], tuple[SavedLimit, SavedEviction]]:
    """Return evictions and the limits that call for them, by experiment, place, and position of the save."""
    return {
        (part.experiment_id, one.uri, one.checkpoint_position): (limit, one)
        for limit in limits
        for part in limit.parts
        for one in part.evictions
    }


def purges_of(limits: Iterable[SavedLimit]) -> set[tuple[str, str]]:
    """Return decisions whose trash goes, with their experiments."""
    return {
        (part.experiment_id, decision_id) for limit in limits for part in limit.parts for decision_id in part.purges
    }

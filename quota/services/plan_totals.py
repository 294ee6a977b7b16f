"""What a plan comes to: by experiment, by why checkpoints go, and by the store that gets room."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from quota.domain.events import EvictionReason
from quota.domain.policies import Candidate
from quota.services.planning import Planned


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTotal:
    """Evictions that are alike.

    Attributes:
        experiment_id: Their experiment.
        reason: Why they go.
        store_uri: Root of the store that they lie in.
        evictions: How many there are.
        size_bytes: Their sizes.
        cost_seconds: Expected seconds of lost work; None where the policy scores nothing.
    """

    experiment_id: str
    reason: EvictionReason
    store_uri: str
    evictions: int
    size_bytes: int
    cost_seconds: float | None


def plan_totals(planned: Planned) -> list[PlanTotal]:
    """Add up what all limits together take, by experiment, reason and store, in this order."""
    groups: dict[tuple[str, EvictionReason, str], list[Candidate]] = defaultdict(list)
    for part in planned.parts:
        for one in part.evictions:
            groups[part.experiment_id, one.reason, planned.stores[one.uri]].append(one)
    return [
        PlanTotal(
            experiment_id=experiment_id,
            reason=reason,
            store_uri=store_uri,
            evictions=len(found),
            size_bytes=sum(one.size_bytes for one in found),
            cost_seconds=cost_of(found),
        )
        for (experiment_id, reason, store_uri), found in sorted(groups.items())
    ]


def cost_of(found: list[Candidate]) -> float | None:
    """Return the expected seconds of lost work that evictions cost together; None where one of them has no cost."""
    costs = [one.cost_seconds for one in found if one.cost_seconds is not None]
    return sum(costs) if len(costs) == len(found) else None

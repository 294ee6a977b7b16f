"""Recomputes what decisions were based on, as an auditor would years later: from the events before them alone."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from quota.domain.events import EvictionDecided
from quota.domain.experiment import ExperimentState
from quota.domain.fold import fold_experiment
from quota.domain.keeping import Rules
from quota.domain.policies import candidates, order_key
from quota.domain.scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from quota.bootstrap import Services
    from quota.domain.events import PolicyParameters, RecordedEvent
    from quota.domain.policies import Candidate

INPUTS = (
    "trial_id",
    "reason",
    "level",
    "metric",
    "rank",
    "rung_length",
    "promotion_quantile",
    "estimator",
    "estimator_ones",
    "estimator_total",
    "rank_of_equals",
    "arrivals_better",
    "p_better",
    "time_ratio",
    "resume_probability",
    "kept_resource",
    "score",
    "cost_seconds",
)


def whole_stream(services: Services, experiment_id: str) -> list[RecordedEvent]:
    """Read all events of a stream."""
    with services.database.read() as connection:
        until = services.log.position(connection, experiment_id)
        return list(services.log.read(connection, experiment_id, after=0, until=until))


def not_recomputed(
    stream: Sequence[RecordedEvent],
    planned_at: Callable[[ExperimentState, RecordedEvent], datetime] | None = None,
    *,
    with_places: bool = False,
) -> Iterator[str]:
    """Yield each logged input of a decision that the events up to the decision's own position do not add up to.

    Args:
        stream: All events of one experiment.
        planned_at: Tells when a decision was planned; when it was recorded, by its sender, where it is not given.
        with_places: Whether nothing stood in the way of any candidate, so that the order of eviction recomputes too.
    """
    decisions = [
        (event, event.payload)
        for event in stream
        if isinstance(event.payload, EvictionDecided) and event.payload.parameters is not None
    ]
    state = ExperimentState(stream[0].experiment_id)
    unread = iter(stream)
    # What was planned before may be claimed after what was planned later.
    for position, group in groupby(sorted(decisions, key=_position), key=_position):
        while state.position < position:
            fold_experiment(state, next(unread))
        known: dict[object, list[Candidate]] = {}
        for event, decided in group:
            now = event.occurred_at if planned_at is None else planned_at(state, event)
            key = decided.parameters, now
            if key not in known:
                known[key] = _ordered(state, decided, now)
            yield from _differences(state, decided, known[key])
            place = next((place for place, one in enumerate(known[key], 1) if one.uri == decided.uri), None)
            if with_places and place != decided.place:
                yield f"decision {decided.decision_id}: place is {place}, and {decided.place} was logged"


def _position(one: tuple[RecordedEvent, EvictionDecided]) -> int:
    return one[1].state_position


_NO_SECONDS = 1.0
"""What stands for the seconds of a unit of resource where a decision has none: its cost is not compared then."""


def in_order_of_eviction(
    scored: Sequence[Candidate], parameters: PolicyParameters, experiment_id: str
) -> list[Candidate]:
    """Sort candidates of one experiment so that the one to be missed least comes first."""
    return sorted(scored, key=lambda candidate: order_key(candidate, parameters, experiment_id))


def _ordered(state: ExperimentState, decided: EvictionDecided, now: datetime) -> list[Candidate]:
    assert decided.parameters is not None
    rules = Rules(
        parameters=decided.parameters, now=now, seconds_per_resource=decided.seconds_per_resource or _NO_SECONDS
    )
    found = candidates(state, rules)
    if decided.limit_measure in {None, "checkpoints"}:
        found = [one for one in found if one.counts]
    return in_order_of_eviction(found, decided.parameters, state.experiment_id)


def _differences(state: ExperimentState, decided: EvictionDecided, found: Sequence[Candidate]) -> Iterator[str]:
    usage = state.usage.held_checkpoints
    is_own = decided.limit_scope is not None and not Scope.parse(decided.limit_scope).is_shared
    if is_own and decided.limit_measure in {None, "checkpoints"} and decided.usage != usage:
        yield f"decision {decided.decision_id}: usage is {usage}, and {decided.usage} was logged"
    own = next((one for one in found if one.uri == decided.uri), None)
    if own is None or own.saved_position != decided.checkpoint_position:
        yield f"decision {decided.decision_id}: {decided.uri} is no candidate: {own}"
        return
    for name in INPUTS:
        recomputed, logged = _exact(getattr(own, name)), _exact(getattr(decided, name))
        if recomputed != logged:
            yield f"decision {decided.decision_id}: {name} is {recomputed}, and {logged} was logged"


def _exact(value: object) -> object:
    """Write a number so that the last bit shows, and NaN equals itself."""
    return value.hex() if isinstance(value, float) else value

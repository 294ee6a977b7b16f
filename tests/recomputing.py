"""Recomputes what decisions were based on, from streams that are at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quota.domain.experiment import ExperimentState
from quota.domain.fold import fold_experiment
from quota.domain.policies import order_key
from quota.domain.recomputation import LoggedDecision, by_state, exact, recompute, scored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from quota.bootstrap import Services
    from quota.domain.events import PolicyParameters, RecordedEvent
    from quota.domain.policies import Candidate


def whole_stream(services: Services, experiment_id: str) -> list[RecordedEvent]:
    """Read all events of a stream."""
    with services.database.read() as connection:
        until = services.log.position(connection, experiment_id)
        return list(services.log.read(connection, experiment_id, after=0, until=until))


def not_recomputed(stream: Sequence[RecordedEvent], *, with_places: bool = False) -> Iterator[str]:
    """Yield each logged input of a decision that the events up to the decision's own position do not add up to.

    Args:
        stream: All events of one experiment.
        with_places: Whether nothing stood in the way of any candidate, so that the order of eviction recomputes too.
    """
    state, unread = ExperimentState(stream[0].experiment_id), iter(stream)
    logged = [one for event in stream if (one := LoggedDecision.of(event)) is not None]
    for position, decisions in by_state(logged).items():
        while state.position < position:
            fold_experiment(state, next(unread))
        for one, mismatches in recompute(state, decisions):
            decision_id = one.decided.decision_id
            for found in mismatches:
                recomputed, told = exact(found.recomputed), exact(found.logged)
                yield f"decision {decision_id}: {found.name} is {recomputed}, and {told} was logged"
            if with_places:
                order = scored(state, one)
                place = next((place for place, each in enumerate(order, 1) if each.uri == one.decided.uri), None)
                if place != one.decided.place:
                    yield f"decision {decision_id}: place is {place}, and {one.decided.place} was logged"


def in_order_of_eviction(
    scored: Sequence[Candidate], parameters: PolicyParameters, experiment_id: str
) -> list[Candidate]:
    """Sort candidates of one experiment so that the one to be missed least comes first."""
    return sorted(scored, key=lambda candidate: order_key(candidate, parameters, experiment_id))

"""What each decision was based on can be recomputed from the log alone, to the last bit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from quota.domain.events import (
    EvictionDecided,
    ExperimentRegistered,
    PolicyParameters,
    TrialReported,
    TrialStarted,
)
from quota.services.sweep_order import SweepOrder
from recomputing import not_recomputed, whole_stream
from support import HandClock, create_schema, services_over
from sweeps import DAY, ROOT, Sweeps, WatchedStore

if TYPE_CHECKING:
    from datetime import datetime


LENGTH_SECONDS = 600
POLICIES = [
    PolicyParameters(),
    PolicyParameters(prior_mean=0.2, prior_size=5, min_data_at_rung=40, approx_steps=10),
    PolicyParameters(policy="expected-cost"),
    PolicyParameters(policy="by_level"),
    PolicyParameters(policy="random", seed=7),
]


class TickingClock(HandClock):
    """Is a little later whenever one looks at it, as real ones are."""

    def now(self) -> datetime:
        self.moment += timedelta(microseconds=1_017)
        return self.moment


def tell(sweeps: Sweeps) -> None:
    """Let trials pause at two rungs, be resumed, keep two checkpoints, and report past those that are paused."""
    sweeps.services.administration.add_store(ROOT)
    sweeps.limit("experiments", 6, 4)
    sweeps.send(
        ExperimentRegistered(
            mode="max",
            rung_levels=(1, 3),
            promotion_quantiles=(0.4, 0.3),
            max_resource=9,
            max_wallclock_seconds=LENGTH_SECONDS,
        )
    )
    for number in range(1, 10):
        trial_id, metric = str(number), (number * 7 % 10) / 3
        sweeps.send(TrialStarted(trial_id=trial_id), TrialReported(trial_id=trial_id, resource=1, metric=metric))
        sweeps.pause(trial_id, metric=metric)
    for trial_id in ("2", "5", "9"):
        sweeps.resume(trial_id)
        sweeps.send(TrialReported(trial_id=trial_id, resource=3, metric=float(trial_id)))
        sweeps.save(trial_id, "-later", resource=3)
    for trial_id in ("2", "5"):
        sweeps.pause(trial_id, metric=float(trial_id), level=3)


@pytest.mark.parametrize("parameters", POLICIES, ids=lambda one: f"{one.policy}-{one.min_data_at_rung}")
def test_inputs_recompute_though_time_passes_between_plan_and_claim(
    database_url: str, parameters: PolicyParameters
) -> None:
    create_schema(database_url)
    clock, store = TickingClock(), WatchedStore()
    with services_over(database_url, clock, lambda _: store) as services:
        sweeps = Sweeps(services, clock, store)
        tell(sweeps)
        sweeps.sweep(SweepOrder(parameters, DAY))
        sweeps.wait(timedelta(minutes=2))
        sweeps.limit("experiments", 3, 2)
        sweeps.sweep(SweepOrder(parameters, DAY))
        stream = whole_stream(services, "x")
    decided = [event.payload for event in stream if isinstance(event.payload, EvictionDecided)]
    assert {one.reason for one in decided} == {"paused", "superseded"}
    assert len({one.state_position for one in decided}) == 2
    assert list(not_recomputed(stream, with_places=True)) == []

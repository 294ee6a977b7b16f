"""What the tests of the views share: a log made by hand, past all services, and questions to the views.

Each figure of an event differs from the others, so that no column can be taken for another.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import text

from quota.domain.events import (
    CheckpointSaved,
    Event,
    EvictionDecided,
    ExperimentRegistered,
    PolicyParameters,
    TrialPaused,
    TrialReported,
    TrialStarted,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.manifest import Manifest, ManifestEntry
from quota.eventlog.log import Prepared
from quota.eventlog.types import iso_text
from quota.services.appending import Appender
from support import START

if TYPE_CHECKING:
    from quota.bootstrap import Services

SWEEP = "01990000-0000-7000-8000-000000000001"
CUT_OFF_SWEEP = "01990000-0000-7000-8000-000000000002"
PURGED = "01990000-0000-7000-8000-00000000000a"
REFUSED = "01990000-0000-7000-8000-00000000000b"
RANDOMLY = PolicyParameters(policy="random", seed=2**53 - 1)
REGISTERED = ExperimentRegistered(
    mode="max", rung_levels=(1, 3), promotion_quantiles=(0.5, 0.25), max_resource=9, max_wallclock_seconds=600.0
)

Row = dict[str, Any]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def shown(seconds: float) -> str:
    return iso_text(at(seconds))


def tell(services: Services, experiment_id: str, *events: Event | tuple[float, Event]) -> None:
    """Append events to a stream, and store what they add up to; at START, or so many seconds after it."""
    appender = Appender(services.log, services.clock, "tester")
    with services.projector.locked([experiment_id]) as locked:
        for event in events:
            seconds, payload = event if isinstance(event, tuple) else (0.0, event)
            appender.add(locked[experiment_id], payload, at(seconds))
        services.projector.store(locked[experiment_id])


def deploy(services: Services, *events: Event | tuple[float, Event]) -> None:
    """Append events to the deployment's stream, and store what they add up to."""
    appender = Appender(services.log, services.clock, "operator")
    with services.log.locked([DEPLOYMENT_STREAM]) as streams:
        for event in events:
            seconds, payload = event if isinstance(event, tuple) else (0.0, event)
            services.log.add(
                streams[DEPLOYMENT_STREAM], Prepared.of(appender.event(DEPLOYMENT_STREAM, payload, at(seconds)))
            )
        services.projector.store_deployment(streams[DEPLOYMENT_STREAM])


def ask(services: Services, query: str) -> list[Row]:
    """Return the answer, in words that are the same for both databases."""
    with services.database.read() as connection:
        rows = [dict(row) for row in connection.execute(text(query)).mappings()]
    return [{name: _alike(name, value) for name, value in row.items()} for row in rows]


def _alike(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever a driver returns
    if isinstance(value, datetime):
        return iso_text(value)
    if isinstance(value, UUID):
        return str(value)
    if name in {"parameters", "arrivals_better", "exceeded", "errors"} and isinstance(value, str):
        return json.loads(value)
    return value


def saved(trial_id: str, uri: str, size_bytes: int = 10, resource: int = 1) -> CheckpointSaved:
    return CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=size_bytes, resource=resource)


def paused(trial_id: str, metric: float, level: int = 1) -> list[Event]:
    return [
        TrialStarted(trial_id=trial_id),
        TrialReported(trial_id=trial_id, resource=level, metric=metric),
        saved(trial_id, f"memory://store/{trial_id}/"),
        TrialPaused(trial_id=trial_id, level=level, metric=metric),
    ]


def decided(decision_id: str, trial_id: str, checkpoint_position: int, **inputs: Any) -> EvictionDecided:  # noqa: ANN401 - of each its own
    manifest = Manifest.of(
        ManifestEntry(path=name, size_bytes=size, version="1") for name, size in (("a", 5), ("b", 6))
    )
    return EvictionDecided(
        decision_id=decision_id,
        trial_id=trial_id,
        sweep_id=SWEEP,
        uri=f"memory://store/{trial_id}/",
        store_uri="memory://store/",
        checkpoint_position=checkpoint_position,
        size_bytes=11,
        manifest=manifest,
        state_position=21,
        limit_scope="experiments",
        limit_measure="checkpoints",
        limit_high=22,
        limit_low=23,
        usage=24,
        usage_after=38,
        planned_at=at(9),
        policy_version=39,
        parameters=RANDOMLY,
        **inputs,
    )


def paused_with_reasons(metric: float) -> Row:
    return {
        "reason": "paused",
        "place": 25,
        "level": 1,
        "metric": metric,
        "rank": 26,
        "rung_length": 27,
        "promotion_quantile": 0.28,
        "estimator": "overall",
        "estimator_ones": 29,
        "estimator_total": 30,
        "rank_of_equals": 40,
        "arrivals_better": [0.41, 0.42],
        "p_better": 0.31,
        "time_ratio": 0.32,
        "resume_probability": 0.33,
        "kept_resource": 37,
        "score": 0.34,
        "seconds_per_resource": 0.35,
        "cost_seconds": 0.36,
        "runner_up_uri": "memory://store/b/",
        "runner_up_score_seconds": 0.43,
    }

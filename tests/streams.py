"""Stories as events that are appended to a log."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from folding import Story
from quota.domain.events import NewEvent
from quota.domain.experiment import ExperimentState
from quota.eventlog.log import Prepared
from stories import Step, tell

if TYPE_CHECKING:
    from quota.bootstrap import Services


def told(history: list[Step]) -> tuple[str, list[NewEvent]]:
    """Return a new experiment's id, and events that its stream admits in this order."""
    experiment_id = f"story-{uuid.uuid4()}"
    story = Story(state=ExperimentState(experiment_id))
    tell(story, history)
    return experiment_id, [
        NewEvent(
            event_id=str(uuid.uuid4()),
            experiment_id=experiment_id,
            occurred_at=event.occurred_at,
            actor="tester",
            payload=event.payload,
        )
        for event in story.events
    ]


def append(services: Services, experiment_id: str, batch: list[NewEvent]) -> None:
    """Append as sweeper and recorder together, under the stream's lock."""
    with services.projector.locked([experiment_id]) as locked:
        for new in batch:
            services.recorder.appender.add_event(locked[experiment_id], Prepared.of(new))

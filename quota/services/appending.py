"""Adding our own events to a stream whose lock is held, and folding them at once."""

from __future__ import annotations

from datetime import datetime

from quota.domain.events import Event, NewEvent
from quota.domain.fold import fold_experiment
from quota.eventlog.log import EventLog, Prepared
from quota.ports import Clock
from quota.projections.projector import LockedExperiment
from quota.services.ids import new_id


class Appender:
    """Speaks for one actor.

    Args:
        log: Where events go.
        clock: By which they are dated.
        actor: In whose name.
    """

    def __init__(self, log: EventLog, clock: Clock, actor: str) -> None:
        self.log = log
        self.clock = clock
        self.actor = actor

    def event(self, experiment_id: str, payload: Event, at: datetime | None = None) -> NewEvent:
        """Put `payload` into an envelope."""
        return NewEvent(
            event_id=new_id(),
            experiment_id=experiment_id,
            occurred_at=at or self.clock.now(),
            actor=self.actor,
            payload=payload,
        )

    def add(self, locked: LockedExperiment, payload: Event, at: datetime | None = None) -> None:
        """Append `payload` to the stream, and take it into the state."""
        self.add_event(locked, Prepared.of(self.event(locked.state.experiment_id, payload, at)))

    def add_event(self, locked: LockedExperiment, prepared: Prepared) -> int:
        """Append an event that was made elsewhere, and take it into the state.

        Returns:
            Its position.
        """
        recorded = self.log.add(locked.stream, prepared)
        fold_experiment(locked.state, recorded)
        return recorded.position

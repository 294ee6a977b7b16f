"""The one fold: it serves catching up, rebuilding and verifying alike.

What it does at each event costs O(log n) in the size of the rung.
"""

from __future__ import annotations

from quota.domain.events import RecordedEvent
from quota.domain.experiment import ExperimentState
from quota.domain.fold.checkpoints import HANDLERS as CHECKPOINT_HANDLERS
from quota.domain.fold.evictions import HANDLERS as EVICTION_HANDLERS
from quota.domain.fold.timing import time_flag
from quota.domain.fold.trials import HANDLERS as TRIAL_HANDLERS

HANDLERS = TRIAL_HANDLERS | CHECKPOINT_HANDLERS | EVICTION_HANDLERS
"""What each event of an experiment's stream does."""


def fold_experiment(state: ExperimentState, event: RecordedEvent) -> None:
    """Take the next event of an experiment's stream into `state`.

    Raises:
        KeyError: the event does not belong to an experiment's stream, or names what the stream never introduced.
        ValueError: `event` is not the next one.
    """
    if event.position != state.position + 1:
        message = f"event {event.position} cannot follow event {state.position} of {state.experiment_id}"
        raise ValueError(message)
    state.position = event.position
    flag = time_flag(state, event)
    if flag is not None:
        state.touched.flags.append((event.position, flag))
    HANDLERS[type(event.payload)](state, event, event.payload)

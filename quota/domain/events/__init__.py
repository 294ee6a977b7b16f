"""What can happen, in the past tense: one frozen class an event.

An event's class holds its `data`; `NewEvent` and `RecordedEvent` are the envelopes around it.
"""

from quota.domain.events.archiving import ArchiveRestored, EventsRemoved, ExperimentArchived
from quota.domain.events.base import (
    Count,
    Event,
    NewEvent,
    Quantile,
    RecordedEvent,
    SizeBytes,
    instant_problem,
)
from quota.domain.events.checkpoint import (
    CheckpointAdopted,
    CheckpointFound,
    CheckpointMissing,
    CheckpointPinned,
    CheckpointSaved,
    CheckpointUnpinned,
)
from quota.domain.events.deployment import (
    ClockAccepted,
    PolicyParameters,
    StoreAdded,
    StoreRemoved,
    SweepFinished,
    SweepStarted,
)
from quota.domain.events.eviction import (
    CancelReason,
    CheckpointPurged,
    CheckpointRestored,
    CheckpointTrashed,
    EvictionCancelled,
    EvictionDecided,
    EvictionFailed,
    EvictionReason,
    PurgeDecided,
)
from quota.domain.events.experiment import ExperimentFinished, ExperimentRegistered
from quota.domain.events.limits import (
    LimitMeasure,
    LimitRemoved,
    LimitSet,
    ReserveMeasure,
    ReserveRemoved,
    ReserveSet,
    ScopePinned,
    ScopeUnpinned,
)
from quota.domain.events.trial import (
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)

_RECORDER_CLASSES: tuple[type[Event], ...] = (
    ExperimentRegistered,
    ExperimentFinished,
    TrialStarted,
    TrialReported,
    TrialPaused,
    TrialResumed,
    TrialStopped,
    TrialCompleted,
    TrialFailed,
    CheckpointSaved,
    CheckpointPinned,
    CheckpointUnpinned,
    CheckpointMissing,
)
_SWEEPER_CLASSES: tuple[type[Event], ...] = (
    EvictionDecided,
    CheckpointTrashed,
    PurgeDecided,
    CheckpointPurged,
    EvictionFailed,
    EvictionCancelled,
    CheckpointRestored,
    CheckpointFound,
    CheckpointAdopted,
)
_DEPLOYMENT_CLASSES: tuple[type[Event], ...] = (
    StoreAdded,
    StoreRemoved,
    LimitSet,
    LimitRemoved,
    ReserveSet,
    ReserveRemoved,
    ScopePinned,
    ScopeUnpinned,
    SweepStarted,
    SweepFinished,
    ClockAccepted,
    ExperimentArchived,
    EventsRemoved,
    ArchiveRestored,
)

RECORDER_EVENTS = {cls.TYPE: cls for cls in _RECORDER_CLASSES}
"""What a tuner may send. It never says where deletion is allowed, nor that something was deleted by us."""

DEPLOYMENT_EVENTS = {cls.TYPE: cls for cls in _DEPLOYMENT_CLASSES}
"""What belongs to no experiment: the stream `_deployment`."""

EVENT_TYPES = RECORDER_EVENTS | {cls.TYPE: cls for cls in _SWEEPER_CLASSES} | DEPLOYMENT_EVENTS
"""All event classes, by the name of their type."""

__all__ = [
    "DEPLOYMENT_EVENTS",
    "EVENT_TYPES",
    "RECORDER_EVENTS",
    "ArchiveRestored",
    "CancelReason",
    "CheckpointAdopted",
    "CheckpointFound",
    "CheckpointMissing",
    "CheckpointPinned",
    "CheckpointPurged",
    "CheckpointRestored",
    "CheckpointSaved",
    "CheckpointTrashed",
    "CheckpointUnpinned",
    "ClockAccepted",
    "Count",
    "Event",
    "EventsRemoved",
    "EvictionCancelled",
    "EvictionDecided",
    "EvictionFailed",
    "EvictionReason",
    "ExperimentArchived",
    "ExperimentFinished",
    "ExperimentRegistered",
    "LimitMeasure",
    "LimitRemoved",
    "LimitSet",
    "NewEvent",
    "PolicyParameters",
    "PurgeDecided",
    "Quantile",
    "RecordedEvent",
    "ReserveMeasure",
    "ReserveRemoved",
    "ReserveSet",
    "ScopePinned",
    "ScopeUnpinned",
    "SizeBytes",
    "StoreAdded",
    "StoreRemoved",
    "SweepFinished",
    "SweepStarted",
    "TrialCompleted",
    "TrialFailed",
    "TrialPaused",
    "TrialReported",
    "TrialResumed",
    "TrialStarted",
    "TrialStopped",
    "instant_problem",
]

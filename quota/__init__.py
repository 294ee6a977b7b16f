"""Keeps the checkpoints of hyperparameter tuning within a storage quota, and records why each one went.

`quota.connect(url)` opens a database for recording; everything else is the command `ckpt-quota`. The events that a
tuner sends can be imported from here too, for `ExperimentHandle.event` and `Quota.append`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quota.client import ExperimentHandle, Quota, connect
    from quota.domain.events import (
        CheckpointMissing,
        CheckpointPinned,
        CheckpointSaved,
        CheckpointUnpinned,
        ExperimentFinished,
        ExperimentRegistered,
        NewEvent,
        TrialCompleted,
        TrialFailed,
        TrialPaused,
        TrialReported,
        TrialResumed,
        TrialStarted,
        TrialStopped,
    )
    from quota.errors import (
        BadInput,
        DatabaseUnavailable,
        NotFound,
        PathRefused,
        QuotaError,
        SchemaMismatch,
        SettingsRefused,
        StateRefused,
        StoreError,
    )
    from quota.eventlog.log import Receipt
    from quota.services.recording import LoadableCheckpoint

__all__ = [
    "BadInput",
    "CheckpointMissing",
    "CheckpointPinned",
    "CheckpointSaved",
    "CheckpointUnpinned",
    "DatabaseUnavailable",
    "ExperimentFinished",
    "ExperimentHandle",
    "ExperimentRegistered",
    "LoadableCheckpoint",
    "NewEvent",
    "NotFound",
    "PathRefused",
    "Quota",
    "QuotaError",
    "Receipt",
    "SchemaMismatch",
    "SettingsRefused",
    "StateRefused",
    "StoreError",
    "TrialCompleted",
    "TrialFailed",
    "TrialPaused",
    "TrialReported",
    "TrialResumed",
    "TrialStarted",
    "TrialStopped",
    "connect",
]

_HOMES = {
    "BadInput": "quota.errors",
    "DatabaseUnavailable": "quota.errors",
    "ExperimentHandle": "quota.client",
    "LoadableCheckpoint": "quota.services.recording",
    "NotFound": "quota.errors",
    "PathRefused": "quota.errors",
    "Quota": "quota.client",
    "QuotaError": "quota.errors",
    "Receipt": "quota.eventlog.log",
    "SchemaMismatch": "quota.errors",
    "SettingsRefused": "quota.errors",
    "StateRefused": "quota.errors",
    "StoreError": "quota.errors",
    "connect": "quota.client",
}
_HOME_OF_EVENTS = "quota.domain.events"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module defines
    """Load a part of the API when it is first used: the command line answers `--help` without it."""
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, _HOME_OF_EVENTS)), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """Show what there is to load."""
    return sorted(__all__)

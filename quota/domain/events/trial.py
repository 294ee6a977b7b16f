"""Events about a trial, as its tuner sees it."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import msgspec

from quota.domain.events.base import Count, Event, id_refusal
from quota.domain.identifiers import storage_problem, text_problem
from quota.domain.refusal import Refusal, RefusalKind

ConfigValue = Any
"""Whatever JSON has a word for, lists and objects included."""


class TrialEvent(Event, frozen=True, kw_only=True):
    """Base of the events about one trial.

    Attributes:
        trial_id: The trial, unique in its experiment.
    """

    trial_id: str

    @property
    def about_trial(self) -> str | None:
        """The trial."""
        return self.trial_id

    def refusal(self) -> Refusal | None:
        """Check the trial's id."""
        return id_refusal("trial_id", self.trial_id)


class TrialStarted(TrialEvent, frozen=True, kw_only=True):
    """A new trial runs.

    Attributes:
        bracket: Number of the bracket it belongs to, from 0.
        config: Its hyperparameters, for people to read, lists and objects included; nothing is decided by them.
    """

    TYPE: ClassVar[str] = "trial_started"

    bracket: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    config: dict[str, ConfigValue] = msgspec.field(default_factory=dict)

    def refusal(self) -> Refusal | None:
        """Check the trial's id, and that the configuration can be written as JSON."""
        return _config_refusal(self.config) or TrialEvent.refusal(self)


def _config_refusal(config: dict[str, ConfigValue]) -> Refusal | None:
    left: list[tuple[str, object]] = [("config", config)]
    while left:
        path, value = left.pop()
        refusal = _value_refusal(path, value)
        if refusal is not None:
            return refusal
        if isinstance(value, dict):
            left += [(f"{path}.{name}", inner) for name, inner in value.items()]
        elif isinstance(value, list | tuple):
            left += [(f"{path}[{index}]", inner) for index, inner in enumerate(value)]
    return None


def _value_refusal(path: str, value: object) -> Refusal | None:
    match value:
        case float() if not math.isfinite(value):
            return Refusal(RefusalKind.NUMBER, path, value, "JSON has no such number; send it as text")
        case int() if not -(2**63) <= value < 2**63:
            reason = "beyond 2^63, which readers of JSON would change; send it as text"
            return Refusal(RefusalKind.NUMBER, path, value, reason)
        case str():
            problem = text_problem(value)
            return None if problem is None else Refusal(RefusalKind.IDENTITY, path, value, problem)
        case dict():
            for name in value:
                problem = text_problem(name) if isinstance(name, str) else "names are texts"
                if problem is not None:
                    return Refusal(RefusalKind.IDENTITY, f"{path}.{name}", name, problem)
            return None
        case None | bool() | int() | float() | list() | tuple():
            return None
        case _:
            return Refusal(RefusalKind.IDENTITY, path, value, "JSON has no word for it; send it as text")


class TrialReported(TrialEvent, frozen=True, kw_only=True):
    """A running trial has reported.

    Attributes:
        resource: Units consumed so far, e.g. epochs.
        metric: The value that the experiment optimises; NaN and infinities are allowed and rank last.
    """

    TYPE: ClassVar[str] = "trial_reported"

    resource: Count
    metric: float


class TrialPaused(TrialEvent, frozen=True, kw_only=True):
    """A running trial stopped at a rung, to be resumed if it is promoted.

    Attributes:
        level: The rung's level.
        metric: The value it is ranked by there; NaN and infinities are allowed and rank last.
    """

    TYPE: ClassVar[str] = "trial_paused"

    level: Count
    metric: float


class TrialResumed(TrialEvent, frozen=True, kw_only=True):
    """A paused trial was promoted and runs again, from its checkpoint or, where that is gone, from scratch.

    Attributes:
        level: The level that it was paused at.
    """

    TYPE: ClassVar[str] = "trial_resumed"

    level: Count


class TrialStopped(TrialEvent, frozen=True, kw_only=True):
    """The tuner ended a trial for good."""

    TYPE: ClassVar[str] = "trial_stopped"


class TrialCompleted(TrialEvent, frozen=True, kw_only=True):
    """A trial has consumed all the resource that it may."""

    TYPE: ClassVar[str] = "trial_completed"


class TrialFailed(TrialEvent, frozen=True, kw_only=True):
    """A trial has ended with an error.

    Attributes:
        error: What went wrong, for people to read.
    """

    TYPE: ClassVar[str] = "trial_failed"

    error: str = ""

    def refusal(self) -> Refusal | None:
        """Check the trial's id, and that the text can be stored."""
        problem = storage_problem(self.error)
        if problem is not None:
            return Refusal(RefusalKind.IDENTITY, "error", self.error, problem)
        return TrialEvent.refusal(self)

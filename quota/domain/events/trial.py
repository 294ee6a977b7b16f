"""Events about a trial, as its tuner sees it."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import msgspec

from quota.domain.events.base import Count, Event, id_refusal
from quota.domain.identifiers import storage_problem, text_problem
from quota.domain.refusal import Refusal, RefusalKind

ConfigValue = str | int | float | bool | None


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
        config: Its hyperparameters, for people to read; nothing is decided by them.
    """

    TYPE: ClassVar[str] = "trial_started"

    bracket: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    config: dict[str, ConfigValue] = msgspec.field(default_factory=dict)

    def refusal(self) -> Refusal | None:
        """Check the trial's id, and that the configuration can be written as JSON."""
        for name, value in self.config.items():
            if isinstance(value, float) and not math.isfinite(value):
                reason = "JSON has no such number; send it as text"
                return Refusal(RefusalKind.NUMBER, f"config.{name}", value, reason)
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                reason = "beyond 2^63, which readers of JSON would change; send it as text"
                return Refusal(RefusalKind.NUMBER, f"config.{name}", value, reason)
            for text in (name, value):
                problem = text_problem(text) if isinstance(text, str) else None
                if problem is not None:
                    return Refusal(RefusalKind.IDENTITY, f"config.{name}", text, problem)
        return TrialEvent.refusal(self)


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

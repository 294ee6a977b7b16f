"""The state of one experiment: what its stream of events adds up to.

The records here have the fields of the projections' rows (their tables name the same columns), so that a state can
be stored, loaded and folded further, and comes out the same as one folded from the beginning.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from quota.domain.events import EvictionDecided
from quota.domain.order import successor
from quota.domain.pace import Pace
from quota.domain.rung import Rung

TrialStatus = Literal["running", "paused", "stopped", "completed", "failed"]
CheckpointState = Literal["stored", "claimed", "trashed", "purging", "purged", "missing"]
Outcome = Literal["claimed", "trashed", "purging", "forbidden", "purged", "restored", "cancelled", "failed"]

AT_ITS_PLACE: tuple[CheckpointState, ...] = ("stored", "claimed")
"""What still lies where its trial wrote it, as far as the log knows."""

EVICTED: tuple[CheckpointState, ...] = ("trashed", "purging", "purged")
"""What a sweep has taken from its place."""

OPEN_OUTCOMES: tuple[Outcome, ...] = ("claimed", "trashed", "purging", "forbidden")
"""The store may still hold what such a decision is about."""

IN_TRASH_OUTCOMES: tuple[Outcome, ...] = ("trashed", "purging", "forbidden")
"""The trash holds what such a decision is about, or some of it."""

UNDOABLE_OUTCOMES: tuple[Outcome, ...] = ("claimed", "trashed", "forbidden")
"""Such a decision can still be undone."""

FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(days=1)
"""What a store refused is tried again after one minute, then two, four … and at last once a day."""

OVERALL = 0
"""The level under which the overall estimator is kept; no rung has it."""


def may_retry(failures: int, failed_at: datetime | None, now: datetime) -> bool:
    """Tell whether what the store refused `failures` times may be tried again."""
    if failed_at is None:
        return True
    doublings = min(failures - 1, 16)
    wait: timedelta = min(FIRST_RETRY * (1 << doublings), LAST_RETRY)
    return failed_at + wait <= now


@dataclass(slots=True)
class Experiment:
    """What an experiment is and what became of it.

    Attributes:
        mode: `min` or `max`.
        max_resource: Resource at which a trial is complete.
        max_wallclock_seconds: Its length; None where it is open-ended.
        labels: What it is labelled with.
        started_at: When it began: the sender's time, or the database's where the sender's lies in the future.
        finished_at: When it ended.
        trials_resumed: How often a trial was resumed.
        trials_resumed_without_checkpoint: How often that trial had lost all its checkpoints.
        lost_resource: Resource that those trials have to consume again.
        checkpoints_evicted: How many checkpoints went to the trash.
    """

    mode: Literal["min", "max"]
    max_resource: int
    max_wallclock_seconds: float | None
    labels: dict[str, str]
    started_at: datetime
    finished_at: datetime | None = None
    trials_resumed: int = 0
    trials_resumed_without_checkpoint: int = 0
    lost_resource: int = 0
    checkpoints_evicted: int = 0


@dataclass(slots=True)
class Trial:
    """One trial.

    Attributes:
        trial_id: Its id.
        status: What it does now.
        bracket: Its bracket.
        started_at: When it started, by the sender's clock.
        resource: Units consumed, as last reported.
        metric: As last reported.
        level: The rung level that it was last paused at.
        resumes: How often it was resumed.
        lost_resource: Resource that it has to consume again, over all resumes.
        stored_checkpoints: How many of its checkpoints are stored.
        resumed_position: Position of the event that last resumed it; None where it never was.
        timed_at: Since when its next units of resource are timed; None before anything was known of it.
        timed_resource: What it had consumed by then.
        promised_uri: The checkpoint that it was told to load then. None where it starts from scratch, and as soon as
            it is paused again or ends.
    """

    trial_id: str
    status: TrialStatus
    bracket: int
    started_at: datetime
    resource: int | None = None
    metric: float | None = None
    level: int | None = None
    resumes: int = 0
    lost_resource: int = 0
    stored_checkpoints: int = 0
    resumed_position: int | None = None
    timed_at: datetime | None = None
    timed_resource: int = 0
    promised_uri: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it will never run again."""
        return self.status not in {"running", "paused"}

    @property
    def held_checkpoints(self) -> int:
        """What it counts for under a limit on checkpoints: a running trial at least one, written or not."""
        if self.status == "running":
            return max(1, self.stored_checkpoints)
        return self.stored_checkpoints if self.status == "paused" else 0


@dataclass(slots=True)
class Checkpoint:
    """What a trial has written to one place, the latest of it.

    Attributes:
        uri: The place.
        trial_id: Whose it is.
        state: Where it is now.
        size_bytes: Size of all its files.
        resource: Units that the trial had consumed when it was written.
        saved_position: Position of the event that saved it.
        saved_at: When that was: the sender's time, or the database's where the sender's cannot be right.
        pinned: Whether it must not be evicted.
        decision_id: The decision that claims it or has taken it.
        failures: How often the store refused to evict it.
        failed_at: When it last did.
    """

    uri: str
    trial_id: str
    state: CheckpointState
    size_bytes: int
    resource: int
    saved_position: int
    saved_at: datetime
    pinned: bool = False
    decision_id: str | None = None
    failures: int = 0
    failed_at: datetime | None = None


@dataclass(slots=True)
class Estimator:
    """Counts of a Beta-binomial estimator.

    Attributes:
        ones: Data where a new report was better than a paused trial, or equal.
        total: All data.
    """

    ones: int = 0
    total: int = 0

    def posterior_mean(self, prior_mean: float, prior_size: float) -> float:
        """Return the mean of p given the counts and a Beta prior (DESIGN.md, section 6)."""
        return (prior_mean * prior_size + self.ones) / (prior_size + self.total)


@dataclass(slots=True)
class Decision:
    """A decision to evict, and what became of it.

    Attributes:
        decided: The decision with all its inputs.
        decided_position: Position of its event.
        decided_at: When it was decided.
        actor: Who ran the sweep.
        outcome: How far it has come.
        outcome_at: When that was.
        freed_bytes: Bytes freed by purging.
        failures: How often the store refused a step.
        failed_at: When it last did.
        error: What the store said then, or why the claim was given up.
    """

    decided: EvictionDecided
    decided_position: int
    decided_at: datetime
    actor: str
    outcome: Outcome = "claimed"
    outcome_at: datetime | None = None
    freed_bytes: int = 0
    failures: int = 0
    failed_at: datetime | None = None
    error: str | None = None

    @property
    def can_be_undone(self) -> bool:
        """Whether there is a way back."""
        return self.outcome in UNDOABLE_OUTCOMES

    @property
    def is_open(self) -> bool:
        """Whether the store may still hold what it is about."""
        return self.outcome in OPEN_OUTCOMES


@dataclass(slots=True)
class Usage:
    """What an experiment holds.

    Attributes:
        held_checkpoints: What counts under a limit on checkpoints: the stored ones of trials that may still run, a
            running trial at least one.
        running_trials: Trials that run.
        stored_checkpoints: Checkpoints at their places.
        stored_bytes: Their sizes.
        claimed_checkpoints: Checkpoints that are about to be moved to the trash.
        claimed_bytes: Their sizes.
        trashed_checkpoints: Checkpoints in the trash, and still on the disk.
        trashed_bytes: Their sizes.
        freed_bytes: Bytes freed so far.
    """

    held_checkpoints: int = 0
    running_trials: int = 0
    stored_checkpoints: int = 0
    stored_bytes: int = 0
    claimed_checkpoints: int = 0
    claimed_bytes: int = 0
    trashed_checkpoints: int = 0
    trashed_bytes: int = 0
    freed_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """What takes up room: all of these but what is freed."""
        return self.stored_bytes + self.claimed_bytes + self.trashed_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a resume had to do without, because of an eviction.

    Attributes:
        position: Position of the resume.
        decision_id: The decision that took the latest checkpoint that it could have loaded.
        trial_id: The trial.
        lost_resource: Units that it has to consume again, and would not if that had been kept.
        lost_seconds: How long that takes, at the pace that the experiment had by then; None before it had any.
    """

    position: int
    decision_id: str
    trial_id: str
    lost_resource: int
    lost_seconds: float | None


@dataclass(slots=True)
class Touched:
    """Which records have changed since they were last stored.

    Attributes:
        experiment: Whether the experiment itself has (usage included).
        trials: Ids of trials.
        rungs: Levels of rungs whose length changed.
        rung_entries: (level, trial id).
        estimators: Levels.
        paces: Bins.
        checkpoints: URIs.
        decisions: By decision id. Decisions that have ended are held here only, until they are stored.
        flags: Position and reason of events that were kept without effect, or whose time is not used.
        losses: What resumes had to do without.
    """

    experiment: bool = False
    trials: set[str] = field(default_factory=set)
    rungs: set[int] = field(default_factory=set)
    rung_entries: set[tuple[int, str]] = field(default_factory=set)
    estimators: set[int] = field(default_factory=set)
    paces: set[int] = field(default_factory=set)
    checkpoints: set[str] = field(default_factory=set)
    decisions: dict[str, Decision] = field(default_factory=dict)
    flags: list[tuple[int, str]] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)


@dataclass(slots=True)
class ExperimentState:
    """All that an experiment's stream adds up to, up to `position`.

    Attributes:
        experiment_id: The stream.
        position: Position of the last event that is in it; 0 before the first.
        experiment: None until it is registered.
        trials: By id.
        rungs: By level, rising.
        estimators: By level; the overall one under `OVERALL`.
        pace: How long a unit of resource takes.
        checkpoints: By URI.
        trial_uris: Each trial's checkpoints, oldest first (`quota.domain.order`).
        trials_with_superseded: Trials that may still run and have more than one stored checkpoint.
        ended_with_checkpoints: Trials that have ended and have a stored checkpoint.
        decisions: The open ones, by id.
        usage: What it holds.
        touched: What has changed since it was last stored.
        changed_since_snapshot: By rung level, how many rows of entries have been written since the rung was last
            written as a whole.
    """

    experiment_id: str
    position: int = 0
    experiment: Experiment | None = None
    trials: dict[str, Trial] = field(default_factory=dict)
    rungs: dict[int, Rung] = field(default_factory=dict)
    estimators: dict[int, Estimator] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    trial_uris: dict[str, list[str]] = field(default_factory=dict)
    trials_with_superseded: set[str] = field(default_factory=set)
    ended_with_checkpoints: set[str] = field(default_factory=set)
    decisions: dict[str, Decision] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    touched: Touched = field(default_factory=Touched)
    changed_since_snapshot: Counter[int] = field(default_factory=Counter)

    @property
    def registered(self) -> Experiment:
        """The experiment.

        Raises:
            LookupError: it is not registered.
        """
        if self.experiment is None:
            raise LookupError(self.experiment_id)
        return self.experiment

    def newest_stored(self, trial_id: str) -> Checkpoint | None:
        """Return the checkpoint that a resume would load, or None where nothing is stored."""
        for uri in reversed(self.trial_uris.get(trial_id, [])):
            if self.checkpoints[uri].state == "stored":
                return self.checkpoints[uri]
        return None

    def successor_of(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """Return the latest checkpoint at its place that has superseded another one, or None where none has.

        Both may be claimed by one sweep, the earlier one first.
        """
        uris = self.trial_uris[checkpoint.trial_id]
        later = (self.checkpoints[uri] for uri in uris[uris.index(checkpoint.uri) + 1 :])
        return successor(checkpoint, [one for one in later if one.state in AT_ITS_PLACE])

    def superseded(self, trial_id: str) -> list[Checkpoint]:
        """Return the trial's stored checkpoints that later ones have superseded and none was promised, oldest first."""
        checkpoints = (self.checkpoints[uri] for uri in self.trial_uris.get(trial_id, []))
        stored = [checkpoint for checkpoint in checkpoints if checkpoint.state == "stored"]
        promised = self.trials[trial_id].promised_uri
        found: list[Checkpoint] = []
        for place, checkpoint in enumerate(stored, start=1):
            if checkpoint.uri != promised and successor(checkpoint, stored[place:]) is not None:
                found.append(checkpoint)
        return found

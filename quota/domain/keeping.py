"""Why checkpoints are kept: what an operator has said of them, and what is best kept in any case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from quota.domain.events import EvictionDecided, EvictionReason, PolicyParameters
from quota.domain.experiment import Checkpoint, ExperimentState, Trial, may_retry
from quota.domain.rung_entry import rank_value

Kept = Literal["pinned", "best", "young", "retained", "refused"]
"""Why a checkpoint is no candidate: it is pinned, by hand or by what it belongs to; it is the newest of one of the best
completed trials; it was saved just now; its experiment has finished just now; or its store refused lately."""


def not_pinned(_uri: str) -> bool:
    """Say of every place that it is pinned by no scope."""
    return False


def may_go(_decided: EvictionDecided) -> bool:
    """Say of everything in the trash that it may be deleted to make room."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """By which rules one experiment's checkpoints are chosen.

    Attributes:
        parameters: The policy.
        now: The time.
        seconds_per_resource: Seconds that a unit of the experiment's resource takes.
        is_pinned: Tells whether a place is pinned by what it belongs to; by hand is the checkpoint's own affair.
        may_purge: Tells whether what a decision has put into the trash may be deleted to make room.
    """

    parameters: PolicyParameters
    now: datetime
    seconds_per_resource: float = 1.0
    is_pinned: Callable[[str], bool] = not_pinned
    may_purge: Callable[[EvictionDecided], bool] = may_go


def why_kept(
    state: ExperimentState, checkpoint: Checkpoint, reason: EvictionReason, rules: Rules, best: frozenset[str]
) -> Kept | None:
    """Say why a stored checkpoint is no candidate, or None where it is one.

    Args:
        state: Its experiment.
        checkpoint: It.
        reason: What it would go for.
        rules: The rules.
        best: The experiment's `best_completed` trials.
    """
    if checkpoint.pinned or rules.is_pinned(checkpoint.uri):
        return "pinned"
    if checkpoint.trial_id in best and checkpoint is state.newest_stored(checkpoint.trial_id):
        return "best"
    min_age = timedelta(seconds=rules.parameters.min_age_seconds)
    # Where no age is asked for, a clock that differs from another one makes nothing young.
    if min_age and checkpoint.saved_at + min_age > rules.now:
        return "young"
    if reason in {"paused", "completed"} and _is_retained(state, rules):
        return "retained"
    return None if may_retry(checkpoint.failures, checkpoint.failed_at, rules.now) else "refused"


def _is_retained(state: ExperimentState, rules: Rules) -> bool:
    finished_at = state.registered.finished_at
    retention = timedelta(seconds=rules.parameters.finished_retention_seconds)
    return finished_at is not None and finished_at + retention > rules.now


def best_completed(state: ExperimentState, keep: int) -> frozenset[str]:
    """Return the best, by what they reported last, of the completed trials that have a checkpoint; equals by their ids.

    Args:
        state: The experiment.
        keep: How many, at most.
    """
    completed = (trial for trial in state.trials.values() if trial.status == "completed" and trial.stored_checkpoints)
    ordered = sorted(completed, key=lambda trial: (last_rank_value(state, trial), trial.trial_id))
    return frozenset(trial.trial_id for trial in ordered[:keep])


def last_rank_value(state: ExperimentState, trial: Trial) -> float:
    """Return what a trial is ranked by for what it reported last: the least is the best."""
    return rank_value(state.registered.mode, float("nan") if trial.metric is None else trial.metric)


def ended_as(trial: Trial) -> EvictionReason:
    """Return the reason that checkpoints of a trial that has ended go for.

    Raises:
        ValueError: it has not ended.
    """
    match trial.status:
        case "stopped" | "failed" | "completed":
            return trial.status
        case _:
            message = f"trial {trial.trial_id} is {trial.status}"
            raise ValueError(message)

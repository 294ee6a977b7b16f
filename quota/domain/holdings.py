"""What an experiment holds within a scope: what counts under a limit, and what is on its way out already."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from quota.domain.eligibility import is_needed_again
from quota.domain.events import LimitMeasure
from quota.domain.experiment import IN_TRASH_OUTCOMES, Decision, ExperimentState, may_retry
from quota.domain.keeping import Rules
from quota.domain.scopes import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Trash:
    """An evicted checkpoint that still takes up its room.

    Attributes:
        experiment_id: Its experiment.
        decision_id: The decision that put it into the trash.
        size_bytes: Its size.
        since: When it got there.
    """

    experiment_id: str
    decision_id: str
    size_bytes: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What is held, by one experiment or by several.

    Attributes:
        checkpoints: Stored checkpoints of trials that may still run; a running trial counts at least one. Within a
            store only what is written counts.
        used_bytes: What takes up room: stored checkpoints, those that are claimed, and the trash.
        leaving_checkpoints: How many of the checkpoints are about to leave, whatever is decided next; not those that
            are claimed, which count no more.
        leaving_bytes: What of the bytes is; it is claimed.
        trash: What of it can be deleted for good by now, oldest first.
    """

    checkpoints: int = 0
    used_bytes: int = 0
    leaving_checkpoints: int = 0
    leaving_bytes: int = 0
    trash: tuple[Trash, ...] = ()

    def __add__(self, other: Holdings) -> Holdings:
        """Return what both hold."""
        return Holdings(
            checkpoints=self.checkpoints + other.checkpoints,
            used_bytes=self.used_bytes + other.used_bytes,
            leaving_checkpoints=self.leaving_checkpoints + other.leaving_checkpoints,
            leaving_bytes=self.leaving_bytes + other.leaving_bytes,
            trash=tuple(sorted((*self.trash, *other.trash), key=lambda one: (one.since, one.decision_id))),
        )

    def used(self, measure: LimitMeasure) -> int:
        """Return what counts under a limit on what is used."""
        return self.checkpoints if measure == "checkpoints" else self.used_bytes

    def leaving(self, measure: LimitMeasure) -> int:
        """Return what of that is about to leave."""
        return self.leaving_checkpoints if measure == "checkpoints" else self.leaving_bytes


def holdings(state: ExperimentState, scope: Scope, rules: Rules) -> Holdings:
    """Return what an experiment holds within a scope.

    Args:
        state: The experiment.
        scope: What counts.
        rules: Say what is pinned, what of the trash may be deleted, and whether what a store refused to delete may be
            tried again by now.
    """
    if state.experiment is None:
        return Holdings()
    if scope.kind == "store":
        return _below(state, scope, rules)
    if not scope.contains(state.experiment_id, state.experiment.labels, None):
        return Holdings()
    usage = state.usage
    return Holdings(
        checkpoints=usage.held_checkpoints,
        used_bytes=usage.used_bytes,
        leaving_bytes=usage.claimed_bytes,
        trash=_trash(state, list(state.decisions.values()), rules),
    )


def _below(state: ExperimentState, scope: Scope, rules: Rules) -> Holdings:
    stored = [one for one in state.checkpoints.values() if one.state == "stored" and scope.contains("", {}, one.uri)]
    opened = [one for one in state.decisions.values() if scope.contains("", {}, one.decided.uri)]
    claimed = sum(one.decided.size_bytes for one in opened if one.outcome == "claimed")
    trashed = sum(one.decided.size_bytes for one in opened if one.outcome in IN_TRASH_OUTCOMES)
    return Holdings(
        checkpoints=sum(not state.trials[one.trial_id].has_ended for one in stored),
        used_bytes=sum(one.size_bytes for one in stored) + claimed + trashed,
        leaving_bytes=claimed,
        trash=_trash(state, opened, rules),
    )


def _trash(state: ExperimentState, opened: list[Decision], rules: Rules) -> tuple[Trash, ...]:
    """Return what can be deleted for good, oldest first: what is pinned comes back, and what is refused waits."""
    found = [
        Trash(
            experiment_id=state.experiment_id,
            decision_id=one.decided.decision_id,
            size_bytes=one.decided.size_bytes,
            since=one.outcome_at or one.decided_at,
        )
        for one in opened
        if one.outcome in {"trashed", "purging"}
        and may_retry(one.failures, one.failed_at, rules.now)
        and not _is_kept(state, one, rules)
        and rules.may_purge(one.decided)
    ]
    return tuple(sorted(found, key=lambda one: (one.since, one.decision_id)))


def _is_kept(state: ExperimentState, decision: Decision, rules: Rules) -> bool:
    """Tell whether what is in the trash comes back, as far as one experiment's state says so."""
    decided = decision.decided
    checkpoint = state.checkpoints[decided.uri]
    if checkpoint.decision_id != decided.decision_id:
        return False
    is_needed = decided.reason == "superseded" and is_needed_again(state, checkpoint)
    return is_needed or checkpoint.pinned or rules.is_pinned(checkpoint.uri)

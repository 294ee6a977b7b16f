"""Explaining one decision: what was known then, what was kept instead, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec import structs
from sqlalchemy import Connection, select

from quota.domain.events import EvictionDecided, RecordedEvent
from quota.domain.experiment import ExperimentState
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.policies import Candidate
from quota.domain.recomputation import LoggedDecision, Mismatch, recompute, scored
from quota.domain.rung import Rung
from quota.errors import LogCorrupt, NotFound
from quota.eventlog.archived import require_events
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.projections.folding import fold_until
from quota.projections.storage import projected_position
from quota.projections.tables import decisions
from quota.services.querying import decision_row

_BEST = 2
_AROUND = 2
_KEPT = 5
"""How much of a rung, and of what was kept, is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedTrial:
    """A trial's place in the rung at that moment.

    Attributes:
        rank: From 1.
        trial_id: The trial.
        metric: What it is ranked by.
        promoted: Whether it had been resumed from there.
        has_checkpoint: Whether it was paused there with a stored checkpoint.
    """

    rank: int
    trial_id: str
    metric: float
    promoted: bool
    has_checkpoint: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision, and what there is to say of it.

    Attributes:
        event: Its event.
        decided: What that says.
        planned_at: The time that its inputs hold for.
        rung: Of the rung that its trial was paused at: the best, and those around it; empty where it was not paused.
        kept: What could have gone by the experiment's own events and did not go in that sweep, the cheapest first.
        mismatches: Inputs that the events before it do not add up to; None where no policy has chosen it.
        later: The events about its trial since, in order.
    """

    event: RecordedEvent
    decided: EvictionDecided
    planned_at: datetime | None
    rung: Sequence[RankedTrial]
    kept: Sequence[Candidate]
    mismatches: Sequence[Mismatch] | None
    later: Sequence[RecordedEvent]

    @property
    def inputs(self) -> Mapping[str, Any]:
        """All that the decision says, by name, but for its manifest."""
        found = structs.asdict(self.decided)
        del found["manifest"]
        return found


class Explainer:
    """Reads the log, and never writes.

    Args:
        database: Where the log lies.
        log: How it is read.
    """

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log

    def explain(self, decision_id: str) -> Explanation:
        """Explain a decision, one that the rows do not know of yet included.

        Raises:
            NotFound: there is none of that id.
            LogCorrupt: its stream contradicts itself.
            StreamArchived: its stream's events lie in an archive.
        """
        with self._database.read() as connection:
            event, decided = self._event(connection, decision_id)
            later = self._later(connection, event, decided)
            logged = LoggedDecision.of(event)
            if logged is None:
                return Explanation(
                    event=event, decided=decided, planned_at=None, rung=(), kept=(), mismatches=None, later=later
                )
            state = ExperimentState(event.experiment_id)
            fold_until(self._log, connection, state, decided.state_position)
            ((_, mismatches),) = recompute(state, [logged])
            gone = self._gone(connection, decided)
            return Explanation(
                event=event,
                decided=decided,
                planned_at=logged.planned_at,
                rung=_around(state, decided),
                kept=[one for one in _scored(state, logged) if one.uri not in gone][:_KEPT],
                mismatches=mismatches,
                later=later,
            )

    def _event(self, connection: Connection, decision_id: str) -> tuple[RecordedEvent, EvictionDecided]:
        try:
            row = decision_row(connection, decision_id)
        except NotFound:
            for event in self._newer_than_rows(connection):
                if isinstance(event.payload, EvictionDecided) and event.payload.decision_id == decision_id:
                    return event, event.payload
            raise
        require_events(connection, row.experiment_id)
        position = row.decided_position
        found = list(self._log.read(connection, row.experiment_id, after=position - 1, until=position))
        if len(found) != 1 or not isinstance(found[0].payload, EvictionDecided):
            advice = "run `ckpt-quota audit verify`, which names what was changed or removed"
            raise LogCorrupt(f"event {position} of {row.experiment_id}: it is no decision to evict; {advice}")
        return found[0], found[0].payload

    def _newer_than_rows(self, connection: Connection) -> Iterator[RecordedEvent]:
        """Yield the decisions of all experiments that nobody has written to the rows yet."""
        for experiment_id, position, _ in self._log.heads(connection):
            known = projected_position(connection, experiment_id)
            if known < position and experiment_id != DEPLOYMENT_STREAM:
                yield from self._log.of_type(connection, experiment_id, EvictionDecided.TYPE, after=known)

    def _later(self, connection: Connection, event: RecordedEvent, decided: EvictionDecided) -> list[RecordedEvent]:
        """Return what the log says of the decision since, and of what its trial has done."""
        types = _ABOUT_DECISIONS | _ABOUT_TRIALS
        found = self._log.of_trials(connection, event.experiment_id, [decided.trial_id], types)
        return [
            one
            for one in found
            if one.position > event.position
            and getattr(one.payload, "decision_id", decided.decision_id) == decided.decision_id
        ]

    def _gone(self, connection: Connection, decided: EvictionDecided) -> set[str]:
        query = select(decisions.c.uri).where(decisions.c.sweep_id == decided.sweep_id)
        return set(connection.execute(query).scalars())


_ABOUT_TRIALS = {
    "trial_resumed",
    "trial_paused",
    "trial_stopped",
    "trial_completed",
    "trial_failed",
    "checkpoint_saved",
}
_ABOUT_DECISIONS = {
    "checkpoint_trashed",
    "purge_decided",
    "checkpoint_purged",
    "eviction_failed",
    "eviction_cancelled",
    "checkpoint_restored",
}


def _scored(state: ExperimentState, logged: LoggedDecision) -> Sequence[Candidate]:
    return scored(state, logged) if state.experiment is not None else ()


def _around(state: ExperimentState, decided: EvictionDecided) -> list[RankedTrial]:
    rung = None if decided.level is None else state.rungs.get(decided.level)
    if rung is None:
        return []
    ranking = rung.ranking()
    own = ranking.ranks.get(decided.trial_id, 0)
    shown = {*range(1, _BEST + 1), *range(own - _AROUND, own + _AROUND + 1)}
    return [_ranked(rung, rank) for rank in sorted(shown) if 0 < rank <= len(rung)]


def _ranked(rung: Rung, rank: int) -> RankedTrial:
    entry = rung.entries[rung.ranking().trial_ids[rank - 1]]
    return RankedTrial(
        rank=rank,
        trial_id=entry.trial_id,
        metric=entry.metric,
        promoted=entry.promoted,
        has_checkpoint=entry.has_checkpoint,
    )

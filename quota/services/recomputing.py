"""Recomputing a period's decisions, stream by stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from quota.domain.events import EvictionDecided
from quota.domain.experiment import ExperimentState, Touched
from quota.domain.recomputation import LoggedDecision, Mismatch, by_state, recompute
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.eventlog.reading import EventSource
from quota.projections.folding import fold_until

_ALWAYS = (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """A decision, compared with what the events add up to.

    Attributes:
        experiment_id: Its stream.
        decision_id: The decision.
        position: Position of its event.
        mismatches: What of it they do not add up to.
    """

    experiment_id: str
    decision_id: str
    position: int
    mismatches: tuple[Mismatch, ...]

    @property
    def is_rounding(self) -> bool:
        """Whether it recomputes but for what another processor or another NumPy may round."""
        return bool(self.mismatches) and all(one.is_rounding for one in self.mismatches)


class Recomputer:
    """Reads the log, and never writes; of each stream it holds the state and the decisions, not the events.

    Args:
        database: Where the log lies.
        log: How it is read.
    """

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log

    def recompute(
        self,
        experiment_id: str,
        progress: Callable[[int], None],
        period: tuple[datetime | None, datetime | None] = _ALWAYS,
        source: EventSource | None = None,
    ) -> Iterator[Recomputed]:
        """Recompute an experiment's decisions.

        Args:
            experiment_id: The experiment.
            progress: Is told how many more events have been read.
            period: From when on, and until when (excluded), by the recorded time of the decisions.
            source: What has the events, where it is not the log.

        Raises:
            LogCorrupt: the stream contradicts itself.
        """
        log = source or self._log
        with self._database.read() as connection:
            state = ExperimentState(experiment_id)
            for position, decisions in by_state(_decisions(log, connection, experiment_id, period)).items():
                fold_until(log, connection, state, position, progress)
                for one, mismatches in recompute(state, decisions):
                    yield Recomputed(
                        experiment_id=experiment_id,
                        decision_id=one.decided.decision_id,
                        position=one.position,
                        mismatches=mismatches,
                    )
                # What has changed is stored nowhere.
                state.touched = Touched()
            progress(log.position(connection, experiment_id) - state.position)


def _decisions(
    log: EventSource, connection: Connection, experiment_id: str, period: tuple[datetime | None, datetime | None]
) -> Iterator[LoggedDecision]:
    since, until = period
    for event in log.of_type(connection, experiment_id, EvictionDecided.TYPE):
        is_within = (since is None or event.recorded_at >= since) and (until is None or event.recorded_at < until)
        one = LoggedDecision.of(event) if is_within else None
        if one is not None:
            yield one

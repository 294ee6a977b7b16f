"""Working on an experiment's open decisions, batch by batch, each under one lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from time import monotonic
from typing import TypeVar

from quota.domain.deployment import DeploymentState
from quota.domain.events import Event
from quota.domain.experiment import Decision
from quota.domain.parts import parts
from quota.eventlog.database import Database
from quota.eventlog.leases import Lease
from quota.projections.projector import LockedExperiment
from quota.services.appending import Appender
from quota.services.fencing import FencedStreams
from quota.services.reported import ReportedPlaces
from quota.services.stores import Stores
from quota.services.sweep_order import SweepOrder
from quota.services.tally import Tally

T = TypeVar("T")

_MOVES_A_LOCK = 32
"""How many checkpoints are moved while a stream's lock is held, if that takes no longer than this many seconds."""

_SECONDS_A_LOCK = 1.0
"""A resume waits no longer than that and one move: on SQLite so does whoever writes anything."""


def nothing() -> None:
    """Do nothing."""


class OpenDecisions:
    """What is still to be done about decisions.

    Args:
        database: Where the log lies.
        appender: In whose name.
        streams: Gives the locks and states.
        stores: Where checkpoints lie.
        reported: Says what trials have reported where orphans were.
        tally: Is told what became of decisions.
        should_stop: Whether to leave the rest to the next sweep; asked between two batches.
        order: Says which decisions may be carried out at all.

    Attributes:
        stores: Where checkpoints lie.
        reported: Says what trials have reported where orphans were.
        deployment: What operators said when a lock was last taken.
    """

    def __init__(
        self,
        database: Database,
        appender: Appender,
        streams: FencedStreams,
        stores: Stores,
        reported: ReportedPlaces,
        tally: Tally,
        should_stop: Callable[[], bool],
        order: SweepOrder,
    ) -> None:
        self._database = database
        self._appender = appender
        self._streams = streams
        self._tally = tally
        self._should_stop = should_stop
        self._order = order
        self.stores = stores
        self.reported = reported
        self.deployment = DeploymentState()

    @property
    def lease(self) -> Lease:
        """What is to be held for as long as anything is done."""
        return self._streams.lease

    def now(self) -> datetime:
        """Return the time."""
        return self._appender.clock.now()

    def look_at_stores(self) -> None:
        """Go by what operators say about stores by now, without a lock."""
        with self._database.read() as connection:
            self.stores.look_at(self._streams.projector.deployment(connection))

    def find(self, experiment_id: str, wanted: Callable[[LockedExperiment, Decision], bool]) -> list[Decision]:
        """Return the decisions that are wanted and may be carried out, as they are by now."""
        with self._database.read() as connection:
            # Of most experiments nothing is open most of the time, and their states need not be loaded for that.
            if self._streams.projector.has_nothing_open(connection, experiment_id):
                return []
        with self._streams.locked(experiment_id) as locked:
            self.deployment = self._streams.projector.held_deployment(locked.stream.connection)
            return [
                decision
                for decision in locked.state.decisions.values()
                if self._order.may_carry_out(experiment_id, decision.decided) and wanted(locked, decision)
            ]

    def batches(
        self, experiment_id: str, wanted: Callable[[LockedExperiment, Decision], bool]
    ) -> Iterator[Sequence[str]]:
        """Give their ids, as many at a time as may be worked on under one lock."""
        for batch in batched([decision.decided.decision_id for decision in self.find(experiment_id, wanted)]):
            if self._should_stop():
                return
            yield batch

    def with_each(
        self,
        experiment_id: str,
        decision_ids: Sequence[str],
        work: Callable[[LockedExperiment, Decision], None],
        committed: Callable[[], None] = nothing,
    ) -> None:
        """Do something about decisions under the stream's lock, as far as they are still open.

        Where a store takes its time, that is several transactions, and others have their turn in between.

        Args:
            experiment_id: Whose decisions they are.
            decision_ids: Which.
            work: What to do about each.
            committed: Is told after each transaction.
        """
        left = deque(decision_ids)
        while left:
            with self._streams.locked(experiment_id) as locked:
                self.deployment = self._streams.projector.held_deployment(locked.stream.connection)
                self.stores.look_at(self.deployment)
                until = monotonic() + _SECONDS_A_LOCK
                while left:
                    # Another sweeper, or a resume, may have ended it meanwhile.
                    decision = locked.state.decisions.get(left.popleft())
                    if decision is not None:
                        work(locked, decision)
                    if monotonic() > until:
                        break
                self._streams.projector.store(locked)
            committed()

    def keeping(self, locked: LockedExperiment, work: Callable[[], T]) -> T:
        """Do what may take long, and keep lease and lock meanwhile."""
        return self._streams.lease.keeping(work, locked.stream.connection)

    def add(self, locked: LockedExperiment, event: Event) -> None:
        """Record what has become of a decision."""
        self._appender.add(locked, event)
        self._tally.note(event)


def batched(decision_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut work into parts, each of which is done under one lock."""
    return parts(decision_ids, _MOVES_A_LOCK)

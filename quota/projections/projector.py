"""Keeps states at hand, caught up with their streams under the streams' locks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from sqlalchemy import Connection

from quota.domain.deployment import DeploymentState
from quota.domain.experiment import ExperimentState
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.eventlog.chain import GENESIS
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog, LockedStream
from quota.eventlog.rights import who_may_not_project
from quota.projections.folding import fold_until, rows_read
from quota.projections.loading import has_open_decisions, load_deployment, load_experiment, load_live
from quota.projections.storage import projected_position, rebuilds_of, store_deployment, store_experiment

S = TypeVar("S", ExperimentState, DeploymentState)

_STATES_KEPT = 64

_MOST_FOLDED_LOCKED = 1_000
"""How many events are folded while others wait for a stream's lock: more of them are read before it is taken."""


@dataclass(frozen=True, slots=True)
class _Kept(Generic[S]):
    """A state, with the hash of the event that it ends with, and how often its rows had been made anew by then."""

    state: S
    hash: bytes
    rebuilds: int


@dataclass(slots=True)
class LockedExperiment:
    """An experiment's stream under its lock, and the state that it adds up to."""

    stream: LockedStream
    state: ExperimentState


class Projector:
    """Gives states that reflect the whole of their streams.

    States of experiments are kept between calls, so that catching up costs what has happened since, and not what
    the experiment has become. A kept state is used only if the log still has the very event that it ends with, and
    if nobody has made the rows anew that it was loaded from.

    Args:
        database: Where the log lies.
        log: Is read.
    """

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log
        self._kept: OrderedDict[str, _Kept[ExperimentState]] = OrderedDict()
        self._kept_deployment = _Kept(DeploymentState(), GENESIS, 0)
        self._guard = Lock()

    @contextmanager
    def locked(self, experiment_ids: Iterable[str]) -> Iterator[dict[str, LockedExperiment]]:
        """Hold streams' locks, of one at least, for one transaction, with their states caught up in memory."""
        wanted = sorted(set(experiment_ids))
        self._fold_ahead(wanted)
        taken: dict[str, LockedExperiment] = {}
        with self._log.locked(wanted) as streams:
            connection = next(iter(streams.values())).connection
            rebuilds = rebuilds_of(connection, wanted)
            for experiment_id, stream in streams.items():
                # What is changed now is lost if the transaction is rolled back, so it is kept only afterwards.
                kept = self._take(experiment_id)
                if kept is not None and kept.rebuilds != rebuilds.get(experiment_id, 0):
                    kept = None
                state = self._caught_up(stream, kept)
                taken[experiment_id] = LockedExperiment(stream, state)
            yield taken
            for locked in taken.values():
                self._log.flush(locked.stream)
        for experiment_id, locked in taken.items():
            self._keep(_Kept(locked.state, locked.stream.hash, rebuilds.get(experiment_id, 0)))

    def store(self, locked: LockedExperiment) -> None:
        """Write the state's changes to the tables, in the transaction that holds the lock."""
        self._log.flush(locked.stream)
        store_experiment(locked.stream.connection, locked.state)

    def store_if_permitted(self, locked: LockedExperiment) -> None:
        """Do the same where this user may write the tables; else they are caught up by whoever may."""
        if who_may_not_project(locked.stream.connection) is None:
            self.store(locked)

    def look(self, connection: Connection, experiment_id: str) -> ExperimentState:
        """Return the state as of the connection's snapshot; for callers that may not write."""
        state = self._loaded(connection, experiment_id)
        fold_until(self._log, connection, state, self._log.position(connection, experiment_id))
        return state

    def glance(self, connection: Connection, experiment_id: str, *, ranked: bool) -> ExperimentState:
        """Return what planning asks of an experiment, as of the connection's snapshot; nothing is folded into it.

        Where the rows reflect the whole stream that costs as much as is held, not as much as there ever was.
        """
        if not self.is_caught_up(connection, experiment_id):
            return self.look(connection, experiment_id)
        with rows_read(experiment_id):
            return load_live(connection, self._log, experiment_id, ranked=ranked)

    def is_caught_up(self, connection: Connection, experiment_id: str) -> bool:
        """Tell whether the rows reflect the whole of a stream."""
        return projected_position(connection, experiment_id) == self._log.position(connection, experiment_id)

    def is_at_hand(self, experiment_id: str) -> bool:
        """Tell whether an experiment's state is kept, so that under its lock it costs what has happened since."""
        with self._guard:
            return experiment_id in self._kept

    def has_nothing_open(self, connection: Connection, experiment_id: str) -> bool:
        """Tell whether no decision of an experiment is open, by rows that reflect the whole of its stream."""
        return self.is_caught_up(connection, experiment_id) and not has_open_decisions(connection, experiment_id)

    def held_deployment(self, connection: Connection) -> DeploymentState:
        """Return the deployment's state, which nobody changes before the connection's transaction ends.

        The state may be shared: callers only read it.
        """
        return self._deployment_at(connection, *self._log.held_deployment(connection))

    def deployment(self, connection: Connection) -> DeploymentState:
        """Return the deployment's state by now, which callers only read."""
        return self._deployment_at(connection, *self._log.head(connection, DEPLOYMENT_STREAM))

    def _deployment_at(self, connection: Connection, position: int, head_hash: bytes) -> DeploymentState:
        rebuilds = rebuilds_of(connection, [DEPLOYMENT_STREAM]).get(DEPLOYMENT_STREAM, 0)
        kept = self._kept_deployment
        if (kept.state.position, kept.hash, kept.rebuilds) != (position, head_hash, rebuilds):
            kept = _Kept(self.look_at_deployment(connection), head_hash, rebuilds)
            self._kept_deployment = kept
        return kept.state

    def look_at_deployment(self, connection: Connection) -> DeploymentState:
        """Return the deployment's state as of the connection's snapshot.

        Raises:
            LogCorrupt: its stream contradicts itself.
            ProjectionDiverged: its tables contradict its stream.
        """
        with rows_read(DEPLOYMENT_STREAM):
            state = load_deployment(connection)
        fold_until(self._log, connection, state, self._log.position(connection, DEPLOYMENT_STREAM))
        return state

    def store_deployment(self, stream: LockedStream) -> DeploymentState:
        """Catch the deployment's tables up, in the transaction that holds its stream's lock."""
        self._log.flush(stream)
        state = self.look_at_deployment(stream.connection)
        store_deployment(stream.connection, state)
        return state

    def _fold_ahead(self, experiment_ids: Sequence[str]) -> None:
        """Fold what many events have been appended to and this process knows nothing of, while nobody has to wait."""
        with self._guard:
            unknown = [experiment_id for experiment_id in experiment_ids if experiment_id not in self._kept]
        if not unknown:
            return
        with self._database.read() as connection:
            for experiment_id in unknown:
                position, head_hash = self._log.head(connection, experiment_id)
                if position - projected_position(connection, experiment_id) > _MOST_FOLDED_LOCKED:
                    rebuilds = rebuilds_of(connection, [experiment_id]).get(experiment_id, 0)
                    self._keep(_Kept(self.look(connection, experiment_id), head_hash, rebuilds))

    def _caught_up(self, stream: LockedStream, kept: _Kept[ExperimentState] | None) -> ExperimentState:
        connection, experiment_id, position = stream.connection, stream.experiment_id, stream.position
        if kept is not None:
            state = kept.state
            same: bytes | None = stream.hash
            if state.position != position:
                same = self._log.hash_at(connection, experiment_id, state.position)
            if kept.hash == same:
                fold_until(self._log, connection, state, position)
                return state
        state = self._loaded(connection, experiment_id)
        fold_until(self._log, connection, state, position)
        return state

    def _loaded(self, connection: Connection, experiment_id: str) -> ExperimentState:
        with rows_read(experiment_id):
            return load_experiment(connection, self._log, experiment_id)

    def _take(self, experiment_id: str) -> _Kept[ExperimentState] | None:
        with self._guard:
            return self._kept.pop(experiment_id, None)

    def _keep(self, kept: _Kept[ExperimentState]) -> None:
        with self._guard:
            self._kept[kept.state.experiment_id] = kept
            if len(self._kept) > _STATES_KEPT:
                self._kept.popitem(last=False)

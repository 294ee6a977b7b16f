"""Keeps states at hand, caught up with their streams under the streams' locks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from sqlalchemy import Connection

from quota.domain.deployment import DeploymentState
from quota.domain.experiment import ExperimentState
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.eventlog.chain import GENESIS
from quota.eventlog.log import EventLog, LockedStream
from quota.projections.folding import fold_until, rows_read
from quota.projections.storage import load_deployment, load_experiment, store_deployment, store_experiment

_STATES_KEPT = 64


@dataclass(slots=True)
class LockedExperiment:
    """An experiment's stream under its lock, and the state that it adds up to."""

    stream: LockedStream
    state: ExperimentState


class Projector:
    """Gives states that reflect the whole of their streams.

    States of experiments are kept between calls, so that catching up costs what has happened since, and not what
    the experiment has become. A kept state is used only if the log still has the very event that it ends with.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._kept: OrderedDict[str, tuple[bytes, ExperimentState]] = OrderedDict()
        self._kept_deployment: tuple[bytes, DeploymentState] = (GENESIS, DeploymentState())
        self._guard = Lock()

    @contextmanager
    def locked(self, experiment_ids: Iterable[str]) -> Iterator[dict[str, LockedExperiment]]:
        """Hold streams' locks for one transaction, with their states caught up in memory."""
        taken: dict[str, LockedExperiment] = {}
        with self._log.locked(experiment_ids) as streams:
            for experiment_id, stream in streams.items():
                # What is changed now is lost if the transaction is rolled back, so it is kept only afterwards.
                kept = self._take(experiment_id)
                state = self._caught_up(stream.connection, kept, experiment_id, stream.position, stream.hash)
                taken[experiment_id] = LockedExperiment(stream, state)
            yield taken
            for locked in taken.values():
                self._log.flush(locked.stream)
        for experiment_id, locked in taken.items():
            self._keep(experiment_id, locked.stream.hash, locked.state)

    def store(self, locked: LockedExperiment) -> None:
        """Write the state's changes to the tables, in the transaction that holds the lock."""
        self._log.flush(locked.stream)
        store_experiment(locked.stream.connection, locked.state)

    def look(self, connection: Connection, experiment_id: str) -> ExperimentState:
        """Return the state as of the connection's snapshot; for callers that may not write."""
        state = self._loaded(connection, experiment_id)
        fold_until(self._log, connection, state, self._log.position(connection, experiment_id))
        return state

    def held_deployment(self, connection: Connection) -> DeploymentState:
        """Return the deployment's state, which nobody changes before the connection's transaction ends.

        The state may be shared: callers only read it.
        """
        return self._deployment_at(connection, *self._log.held_deployment(connection))

    def deployment(self, connection: Connection) -> DeploymentState:
        """Return the deployment's state by now, which callers only read."""
        return self._deployment_at(connection, *self._log.head(connection, DEPLOYMENT_STREAM))

    def _deployment_at(self, connection: Connection, position: int, head_hash: bytes) -> DeploymentState:
        kept_hash, state = self._kept_deployment
        if (state.position, kept_hash) != (position, head_hash):
            state = self.look_at_deployment(connection)
            self._kept_deployment = (head_hash, state)
        return state

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

    def _caught_up(
        self,
        connection: Connection,
        kept: tuple[bytes, ExperimentState] | None,
        experiment_id: str,
        position: int,
        head_hash: bytes,
    ) -> ExperimentState:
        if kept is not None:
            kept_hash, state = kept
            if state.position == position:
                same = kept_hash == head_hash
            else:
                same = kept_hash == self._log.hash_at(connection, experiment_id, state.position)
            if same:
                fold_until(self._log, connection, state, position)
                return state
        state = self._loaded(connection, experiment_id)
        fold_until(self._log, connection, state, position)
        return state

    def _loaded(self, connection: Connection, experiment_id: str) -> ExperimentState:
        with rows_read(experiment_id):
            return load_experiment(connection, self._log, experiment_id)

    def _take(self, experiment_id: str) -> tuple[bytes, ExperimentState] | None:
        with self._guard:
            return self._kept.pop(experiment_id, None)

    def _keep(self, experiment_id: str, head_hash: bytes, state: ExperimentState) -> None:
        with self._guard:
            self._kept[experiment_id] = (head_hash, state)
            if len(self._kept) > _STATES_KEPT:
                self._kept.popitem(last=False)

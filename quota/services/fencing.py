"""Doing nothing to a store any more once the lease, or a stream's lock, may be another process's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

from sqlalchemy import Connection, text

from quota.errors import DatabaseUnavailable
from quota.eventlog.leases import Lease, seconds_up
from quota.ports import CheckpointStore, DistantStore
from quota.projections.projector import LockedExperiment, Projector
from quota.services.stores import OpenStore

SWEEP_LEASE = "sweep"

_TIMEOUTS = """
SELECT name, CAST(setting AS bigint) / 1000.0, CAST(extract(epoch FROM clock_timestamp() - now()) AS double precision)
FROM pg_settings WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout') AND setting <> '0'
"""
"""When the server ends a transaction, in seconds, 0 for never, and for how long this one has been open."""


class FencedStreams:
    """Gives streams' locks as long as the lease holds: a sweeper that was frozen moves nothing when it wakes.

    Whoever holds a stream's lock, the lease and the deployment's stream at once takes them in this order.

    Args:
        projector: Gives the locks and states.
        lease: Is renewed under each lock.
    """

    def __init__(self, projector: Projector, lease: Lease) -> None:
        self.projector = projector
        self.lease = lease

    @contextmanager
    def locked(self, experiment_id: str) -> Iterator[LockedExperiment]:
        """Hold a stream's lock for one transaction, with its state caught up.

        Raises:
            LeaseLost: another process sweeps by now.
        """
        with self.lease.counting_if_committed(), self.projector.locked([experiment_id]) as all_locked:
            locked = all_locked[experiment_id]
            self.lease.require(locked.stream.connection)
            yield locked


def fencing(open_store: OpenStore, lease: Lease) -> OpenStore:
    """Return an opener whose stores delete nothing once the lease may be another process's."""

    def open_fenced(root_uri: str) -> CheckpointStore:
        store = open_store(root_uri)
        if isinstance(store, DistantStore):
            store.fence(lease.require_unexpired)
        return store

    return open_fenced


class TransactionFence:
    """Tells by this host's clock alone whether a transaction, and the locks that it holds, may be gone.

    PostgreSQL ends the transaction of a process that says nothing for long. On SQLite nobody takes a lock from a
    process that is frozen.

    Args:
        connection: The transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._asked_at = seconds_up()
        self._left_seconds = inf if connection.dialect.name == "sqlite" else _seconds_left(connection)

    def require(self) -> None:
        """Check that the server has had no cause to end the transaction; in any thread.

        Raises:
            DatabaseUnavailable: it may have.
        """
        if seconds_up() >= self._asked_at + self._left_seconds:
            raise DatabaseUnavailable(
                f"the transaction may be gone that holds the lock: this process has said nothing for "
                f"{self._left_seconds:g} s; nothing more is done to the store: try again"
            )


def _seconds_left(connection: Connection) -> float:
    left = inf
    for name, limit, elapsed in connection.execute(text(_TIMEOUTS)):
        left = min(left, float(limit) - (elapsed if name == "transaction_timeout" else 0))
    return left


def fencing_locked(open_store: OpenStore, connection: Connection) -> OpenStore:
    """Return an opener whose stores move nothing once the transaction may be gone that holds a stream's lock."""

    def open_fenced(root_uri: str) -> CheckpointStore:
        store = open_store(root_uri)
        if isinstance(store, DistantStore):
            store.fence(TransactionFence(connection).require)
        return store

    return open_fenced

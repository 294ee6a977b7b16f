"""The streams' locks, for whoever holds the sweep's lease and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quota.eventlog.leases import Lease
from quota.ports import CheckpointStore, DistantStore
from quota.projections.projector import LockedExperiment, Projector
from quota.services.stores import OpenStore

SWEEP_LEASE = "sweep"


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

"""Comparing the stores with the log, and recording what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quota.errors import NotFound, PathRefused, StoreError
from quota.eventlog.database import Database
from quota.eventlog.leases import Leases
from quota.projections.catching_up import CatchUp
from quota.projections.projector import Projector
from quota.services.aliases import Aliases
from quota.services.appending import Appender
from quota.services.findings import ReconcileOrder, ReconcileReport, Watcher
from quota.services.reconcile_run import ReconcileRun
from quota.services.rescuing import Rescuer
from quota.services.stores import OpenStore, Stores

RECONCILE_LEASE = "reconcile"


class Reconciler:
    """Lists stores, and compares them with the log. Deletes nothing.

    Args:
        database: Where the log and the projections are.
        projector: Gives the locks and states.
        appender: In whose name.
        rescuer: Looks for what is not at its place.
        open_store: Opens a store.
        leases: Keeps other processes from recording at the same time.
    """

    def __init__(
        self,
        database: Database,
        projector: Projector,
        appender: Appender,
        rescuer: Rescuer,
        open_store: OpenStore,
        leases: Leases,
    ) -> None:
        self._database = database
        self._projector = projector
        self._appender = appender
        self._rescuer = rescuer
        self._open_store = open_store
        self._leases = leases

    def reconcile(self, roots: Sequence[str], order: ReconcileOrder, watcher: Watcher) -> ReconcileReport:
        """Compare stores with the log.

        Args:
            roots: Which stores; all where none is named.
            order: How.
            watcher: Is told what is found.

        Raises:
            NotFound: one of `roots` is no store, or a removed one.
            LeaseHeld: another process records just now.
        """
        if not order.record:
            return self._compare(roots, order, watcher, _nothing)
        with self._leases.held(RECONCILE_LEASE, order.lease_term) as lease:
            return self._compare(roots, order, watcher, lease.keep)

    def _compare(
        self, roots: Sequence[str], order: ReconcileOrder, watcher: Watcher, keep: Callable[[], None]
    ) -> ReconcileReport:
        report = ReconcileReport()
        with self._database.read() as connection:
            deployment = self._projector.look_at_deployment(connection)
        for root in roots:
            if root not in deployment.stores:
                known = ", ".join(sorted(deployment.stores)) or "none"
                raise NotFound(f"store {root}: there is no such store; stores are: {known}")
        catching_up = CatchUp(self._database, self._projector)
        report.untrusted.update(catching_up.as_far_as_possible())
        stores = Stores(deployment, self._open_store)
        for root in roots or sorted(deployment.stores):
            run = ReconcileRun(
                database=self._database,
                projector=self._projector,
                catching_up=catching_up,
                appender=self._appender,
                rescuer=self._rescuer,
                aliases=Aliases(self._database, self._projector, catching_up),
                stores=stores,
                root=root,
                order=order,
                watcher=watcher,
                keep=keep,
                report=report,
            )
            try:
                run.compare()
            except (StoreError, PathRefused) as error:
                report.errors.append(str(error))
        return report


def _nothing() -> None:
    """Keep nothing."""

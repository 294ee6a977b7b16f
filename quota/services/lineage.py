"""Whether the log knows what has last been done in a store, or is an older copy of the one that does."""

from __future__ import annotations

from sqlalchemy import Connection

from quota.domain.deployment import Store
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.mark import Mark
from quota.errors import StoreError
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog


class Lineage:
    """Compares stores' marks with the log, each mark once.

    Args:
        database: Where the log lies.
        log: How it is read.
    """

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log
        self._known: set[Mark] = set()

    def require(self, store: Store, mark: Mark) -> None:
        """Check that the log holds the sweep that has last taken anything out of a store.

        Raises:
            StoreError: it does not, so that it may know nothing of what the store holds by now.
        """
        if mark in self._known:
            return
        with self._database.read() as connection:
            if not goes_on_from(self._log, connection, mark):
                raise StoreError(f"store {store.uri}: {strangeness(store.uri, mark)}")
        self._known.add(mark)


def goes_on_from(log: EventLog, connection: Connection, mark: Mark) -> bool:
    """Tell whether the log holds the event that a mark speaks of."""
    if not mark.generation:
        return True
    found = log.hash_at(connection, DEPLOYMENT_STREAM, mark.generation)
    return found is not None and found.hex() == mark.hash


def strangeness(uri: str, mark: Mark) -> str:
    """Say what a mark means that the log does not know, and what to do."""
    return (
        f"a sweep has taken something out of it that this database knows nothing of (event {mark.generation} of "
        f"{DEPLOYMENT_STREAM}): the database is an older copy, or another copy of it sweeps this store too; nothing is "
        "evicted or purged here. Restore a newer backup; or, if no other copy is to sweep it from now on, run "
        f"`ckpt-quota reconcile --record`, then `ckpt-quota store add {uri} --take-over`"
    )

"""Finding out whether a trial has reported a checkpoint where an orphan was, by whatever name."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection

from quota.domain.events import EvictionDecided
from quota.domain.locations import parse_location
from quota.errors import PathRefused, StoreError
from quota.eventlog.database import Database
from quota.eventlog.locations import Overlap, count_locations, is_taken, taken_locations
from quota.ports import CheckpointReader
from quota.projections.tables import decisions
from quota.services.named_places import Name, NamedPlaces
from quota.services.stores import Stores
from quota.services.taken_orphans import TAKEN_ORPHANS


class ReportedPlaces:
    """Compares orphans' places with all that trials have ever reported. Each name is followed once.

    What leads to the store's root, or to a directory around it, is a mistaken link and no checkpoint.

    Args:
        database: Where the log lies.
        stores: Where the orphans lay.
    """

    def __init__(self, database: Database, stores: Stores) -> None:
        self._database = database
        self._stores = stores
        self._followed: dict[str, set[str]] = defaultdict(set)
        self._counted: dict[str, int] = {}
        self._places: dict[str, NamedPlaces] = defaultdict(NamedPlaces)

    def look_around(self) -> None:
        """Follow all names that are known by now, if there are any orphans: under a lock that would take too long."""
        with self._database.read() as connection:
            for root in connection.execute(TAKEN_ORPHANS.with_only_columns(decisions.c.store_uri).distinct()).scalars():
                store = self._store(root)
                if store is not None:
                    self._follow(connection, store, parse_location(root).scheme)

    def is_reported(self, connection: Connection, decided: EvictionDecided) -> bool:
        """Tell whether a trial says by now that it has saved a checkpoint where an orphan was.

        Where that cannot be told, it is taken to have: an orphan that stays is no loss.

        Args:
            connection: Its transaction sees what has been reported.
            decided: The decision about what may be an orphan.
        """
        if decided.reason != "orphan":
            return False
        if is_taken(connection, decided.uri):
            return True
        store = self._store(decided.store_uri)
        if store is None:
            # Nothing can be done about it just now, and whoever tries says so.
            return False
        self._follow(connection, store, parse_location(decided.store_uri).scheme)
        try:
            place = parse_location(store.place(decided.uri))
            root = parse_location(store.place(decided.store_uri))
        except StoreError:
            return True
        return any(True for _ in self._places[place.scheme].overlapping(place, but_none_around=root))

    def _store(self, root: str) -> CheckpointReader | None:
        try:
            return self._stores.at(root)
        except (StoreError, PathRefused):
            return None

    def _follow(self, connection: Connection, store: CheckpointReader, scheme: str) -> None:
        """Follow what was reported since the last time; only a store of a name's own scheme knows where it leads."""
        number = count_locations(connection)
        if self._counted.get(scheme) == number:
            return
        followed = self._followed[scheme]
        for taken in taken_locations(connection):
            if taken.location not in followed and parse_location(taken.uri).scheme == scheme:
                followed.add(taken.location)
                place = parse_location(place_of(taken, store))
                self._places[place.scheme].add(place, Name(taken.experiment_id, taken.trial_id, taken.uri))
        self._counted[scheme] = number


def place_of(taken: Overlap, store: CheckpointReader) -> str:
    """Return where a name leads that a trial has reported; the name itself where it cannot be followed."""
    try:
        return store.place(taken.uri)
    except StoreError:
        return taken.uri

"""Giving back to a trial what was taken for an orphan before the trial reported it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from quota.domain.identifiers import ORPHANS_STREAM
from quota.domain.locations import Location, parse_location
from quota.errors import PathRefused, StoreError
from quota.eventlog.database import Database
from quota.eventlog.locations import Overlap, taken_locations
from quota.ports import CheckpointReader
from quota.projections.projector import Projector
from quota.services.reported import place_of
from quota.services.rescuing import Rescuer
from quota.services.stores import OpenStore, Stores
from quota.services.taken_orphans import TAKEN_ORPHANS

logger = logging.getLogger(__name__)


class OrphanReturner:
    """Looks through the orphans that are in the trash, or about to be.

    It is asked before the trial's own stream is locked: nobody holds that lock and the orphans' at once.

    Args:
        database: Where the projections are.
        projector: Gives the orphans' lock and state.
        rescuer: Moves them back.
        open_store: Opens a store.
    """

    def __init__(self, database: Database, projector: Projector, rescuer: Rescuer, open_store: OpenStore) -> None:
        self._database = database
        self._projector = projector
        self._rescuer = rescuer
        self._open_store = open_store

    def give_back(self, experiment_id: str, trial_id: str) -> None:
        """Move back what lies in the trash and overlaps a place where the trial has saved a checkpoint since.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        with self._database.read() as connection:
            found = self._reported_by(connection, experiment_id, trial_id)
        if not found:
            return
        with self._projector.locked([ORPHANS_STREAM]) as all_locked:
            locked = all_locked[ORPHANS_STREAM]
            for decision_id in found:
                self._rescuer.bring_back_orphan(locked, decision_id)
            self._projector.store_if_permitted(locked)

    def _reported_by(self, connection: Connection, experiment_id: str, trial_id: str) -> list[str]:
        orphans = connection.execute(TAKEN_ORPHANS).all()
        if not orphans:
            return []
        own = list(taken_locations(connection, experiment_id, trial_id))
        stores = Stores(self._projector.deployment(connection), self._open_store)
        by_root: dict[str, list[Any]] = defaultdict(list)
        for row in orphans:
            by_root[row.store_uri].append(row)
        return [decision_id for root, rows in by_root.items() for decision_id in _those_of(own, root, rows, stores)]


def _those_of(own: Sequence[Overlap], root: str, orphans: Sequence[Any], stores: Stores) -> Iterator[str]:
    """Yield the decisions about orphans of one store that one of a trial's places is, holds or lies in, by any name."""
    named = [parse_location(one.uri) for one in own]
    try:
        store = stores.at(root)
        root_place = parse_location(store.place(root))
        # What leads to the root, or around it, is a mistaken link.
        reached = [place for one in own if not (place := parse_location(place_of(one, store))).contains(root_place)]
    except (StoreError, PathRefused) as error:
        logger.warning("which orphans in %s are a trial's can only be told by their names: %s", root, error)
        store, reached = None, []
    for orphan in orphans:
        location = parse_location(orphan.uri)
        if any(_overlap(one, location) for one in named) or _is_reached(reached, orphan.uri, store):
            yield orphan.decision_id


def _is_reached(reached: Sequence[Location], uri: str, store: CheckpointReader | None) -> bool:
    if store is None or not reached:
        return False
    try:
        place = parse_location(store.place(uri))
    except StoreError as error:
        logger.warning("whether orphan %s is a trial's cannot be told: %s", uri, error)
        return False
    return any(_overlap(one, place) for one in reached)


def _overlap(one: Location, other: Location) -> bool:
    return one.contains(other) or other.contains(one)

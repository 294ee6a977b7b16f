"""Whose each checkpoint location is, over all experiments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, Connection, func, insert, or_, select

from quota.domain.locations import Location, parse_location
from quota.eventlog.advisory_locks import AdvisoryLock
from quota.eventlog.tables import checkpoint_locations


@dataclass(frozen=True, slots=True)
class Overlap:
    """A location that is taken, or contains or lies in one that is.

    Attributes:
        location: The one that is taken.
        experiment_id: Whose it is.
        trial_id: Whose it is.
    """

    location: str
    experiment_id: str
    trial_id: str

    @property
    def uri(self) -> str:
        """The location as its trial has spelled it."""
        return self.location.removesuffix("/") if self.location.startswith("file:") else self.location


def take_location(connection: Connection, experiment_id: str, trial_id: str, uri: str) -> Overlap | None:
    """Take a location for a trial, in the caller's transaction.

    Returns:
        What is in the way, or None where the location is the trial's now.
    """
    location = parse_location(uri)
    # Two trials of two experiments could otherwise take overlapping locations at the same moment.
    hold_locations(connection)
    own = Overlap(location.key, experiment_id, trial_id)
    for overlap in overlapping_locations(connection, location):
        return None if overlap == own else overlap
    taken = {"location": location.key, "experiment_id": experiment_id, "trial_id": trial_id}
    connection.execute(insert(checkpoint_locations).values(taken))
    return None


def hold_locations(connection: Connection) -> None:
    """Let nobody take a location before the caller's transaction ends; whoever is about to, is waited for."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(AdvisoryLock.LOCATIONS)))


def is_taken(connection: Connection, uri: str) -> bool:
    """Tell whether a trial has ever reported a checkpoint at, around or within a place."""
    return next(overlapping_locations(connection, parse_location(uri)), None) is not None


def overlapping_locations(connection: Connection, location: Location) -> Iterator[Overlap]:
    """Find all locations that are taken and are, contain or lie in `location`, in order."""
    table = checkpoint_locations
    overlapping = or_(lies_below(table.c.location, location), table.c.location.in_(location.ancestors()))
    query = select(table).where(overlapping).order_by(table.c.location)
    for row in connection.execute(query):
        yield Overlap(row.location, row.experiment_id, row.trial_id)


def location_around(connection: Connection, uri: str) -> Overlap | None:
    """Return a location that is taken and is, or contains, a place; None where there is none."""
    location = parse_location(uri)
    table = checkpoint_locations
    query = select(table).where(table.c.location.in_((location.key, *location.ancestors())))
    row = connection.execute(query.order_by(table.c.location).limit(1)).first()
    return None if row is None else Overlap(row.location, row.experiment_id, row.trial_id)


def count_locations(connection: Connection) -> int:
    """Return how many locations are taken; none is ever given up."""
    return connection.execute(select(func.count()).select_from(checkpoint_locations)).scalar_one()


def taken_locations(
    connection: Connection, experiment_id: str | None = None, trial_id: str | None = None
) -> Iterator[Overlap]:
    """Yield all locations that are taken, or those of one trial."""
    table = checkpoint_locations
    query = select(table)
    if experiment_id is not None:
        query = query.where(table.c.experiment_id == experiment_id, table.c.trial_id == trial_id)
    for row in connection.execute(query):
        yield Overlap(row.location, row.experiment_id, row.trial_id)


def lies_below(column: Column[str], location: Location) -> ColumnElement[bool]:
    """Return the condition that a column's URI or key begins with a location's key, byte by byte.

    Everything below `…/trial-1/` sorts before `…/trial-10`, since `0` follows `/`. (LIKE takes `A` for `a` on SQLite.)
    """
    return (column >= location.key) & (column < f"{location.key[:-1]}0")

"""What was taken for an orphan, and can still be given back."""

from __future__ import annotations

from sqlalchemy import Connection, or_, select

from quota.domain.experiment import UNDOABLE_OUTCOMES
from quota.domain.identifiers import ORPHANS_STREAM
from quota.domain.locations import parse_location
from quota.eventlog.locations import lies_below
from quota.projections.tables import decisions

TAKEN_ORPHANS = select(decisions.c.decision_id, decisions.c.uri, decisions.c.store_uri).where(
    decisions.c.experiment_id == ORPHANS_STREAM, decisions.c.outcome.in_(UNDOABLE_OUTCOMES)
)
"""The decisions about them, with their places."""


def is_taken_for_an_orphan(connection: Connection, uri: str) -> bool:
    """Tell whether the trash may hold what lay at, around or within a place: then nobody knows that it is missing."""
    place = parse_location(uri)
    overlapping = or_(lies_below(decisions.c.uri, place), decisions.c.uri.in_(place.spellings_around()))
    return connection.execute(TAKEN_ORPHANS.where(overlapping).limit(1)).first() is not None

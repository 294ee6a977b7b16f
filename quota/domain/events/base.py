"""What all events share: their base class, their envelopes, and the ranges of their numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar

import msgspec

from quota.domain.identifiers import id_problem
from quota.domain.refusal import Refusal, RefusalKind

# Beyond 2^53 a JSON reader that keeps numbers as doubles would change them.
Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
MAX_INTEGER = 2**63 - 1
"""What a database's integers hold."""

SizeBytes = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
Quantile = Annotated[float, msgspec.Meta(gt=0, lt=1)]

EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
LATEST = datetime(9999, 12, 29, tzinfo=UTC)
"""Whoever reads a time in a zone of their own moves it by up to a day, and the calendar ends soon after."""


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `data` of an event. Subclasses are named in the past tense and document each field.

    Attributes:
        TYPE: The event's type on the wire and in the log.
        SCHEMA_VERSION: Rises when the fields change; the log's codec then lifts older rows.
    """

    TYPE: ClassVar[str]
    SCHEMA_VERSION: ClassVar[int] = 1

    @property
    def about_trial(self) -> str | None:
        """The trial that the event is about, for auditors; None where there is none."""
        return None

    def refusal(self) -> Refusal | None:
        """Say which rule the fields break that no type expresses, or None."""
        return None


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way into the log.

    Attributes:
        event_id: UUID, the idempotency key: sending the same event twice stores it once.
        experiment_id: The stream it belongs to.
        occurred_at: When it happened, by the sender's clock; aware.
        actor: Who says so, e.g. `user@host`.
        payload: What happened.
    """

    event_id: str
    experiment_id: str
    occurred_at: datetime
    actor: str
    payload: Event


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the log.

    Attributes:
        event_id: As sent.
        experiment_id: Its stream.
        position: 1, 2, 3 … without a gap in its stream.
        occurred_at: When it happened, by the sender's clock; UTC.
        recorded_at: When it was stored, by the database's clock; UTC, never earlier than its predecessor's.
        actor: Who said so.
        payload: What happened, lifted to the present schema version.
    """

    event_id: str
    experiment_id: str
    position: int
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    payload: Event


def instant_problem(moment: datetime) -> str | None:
    """Say what keeps `moment` from naming one instant that every database and every reader can hold, or None."""
    if moment.utcoffset() is None:
        return "it has no zone"
    if not EARLIEST <= moment <= LATEST:
        return f"it does not lie between {EARLIEST.date()} and {LATEST.date()}"
    return None


def id_refusal(field: str, value: str) -> Refusal | None:
    """Check one field that holds an id."""
    problem = id_problem(value)
    return None if problem is None else Refusal(RefusalKind.IDENTITY, field, value, problem)

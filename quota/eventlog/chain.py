"""The hash chain over a stream: whoever changes, drops or moves a row breaks it."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple

import msgspec

GENESIS = bytes(32)
"""What the first event of a stream follows."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENCODER = msgspec.json.Encoder()


class ChainedRow(NamedTuple):
    """What of a row the hash covers: all but `global_position`, which the database gives, and the hash itself."""

    experiment_id: str
    position: int
    event_id: str
    type: str
    schema_version: int
    trial_id: str | None
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    data: str


def microseconds(moment: datetime) -> int:
    """Return the whole microseconds since 1970, exactly."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def chain_hash(previous: bytes, row: ChainedRow) -> bytes:
    """Return SHA-256 over the previous hash and the canonical form of `row`.

    The canonical form is a JSON array of the columns in their order, times as microseconds since 1970 in UTC, data
    as the stored text.
    """
    columns = (
        *row[:6],
        microseconds(row.occurred_at),
        microseconds(row.recorded_at),
        *row[8:],
    )
    return sha256(previous + _ENCODER.encode(columns)).digest()

"""New ids. Time-ordered ones, since random keys slow a growing log down."""

from __future__ import annotations

import uuid_utils


def new_id() -> str:
    """Return a new UUIDv7."""
    return str(uuid_utils.uuid7())

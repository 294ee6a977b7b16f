"""PostgreSQL's advisory locks that this project takes, each until the end of a transaction."""

from __future__ import annotations

from enum import IntEnum


class AdvisoryLock(IntEnum):
    """What they stand for. Whoever takes both takes the deployment's first, and streams' rows before either."""

    LOCATIONS = 0x71756F7461
    """Who takes a location for a checkpoint."""

    DEPLOYMENT = 0x71756F7462
    """Who appends to the deployment's stream, and who needs it to hold still. Those who wait for it are served in turn,
    while shared locks on a row are given to whoever asks next, for as long as one of them is held: a writer would never
    have its turn."""

"""Snapshots of rungs: their entries as columns, so that planning need not read row by row what goes on no more.

A snapshot reflects the stream up to a position of its own; the rows that changed later say the rest. It is derived from
those rows alone, and is made anew once they are many.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
import numpy as np
from sqlalchemy import Connection, bindparam, select

from quota.domain.experiment import ExperimentState
from quota.domain.ranking import NOBODY, Ranking
from quota.projections.rows import ENTRY_COLUMNS, RowValues, entry_of
from quota.projections.tables import rung_entries, rung_snapshots

_LEAST_CHANGED = 256
_MOST_CHANGED_SHARE = 1 / 32
"""A snapshot is worth writing once so many rows, and that share of its rung, have changed since the last one: then it
costs each change about what the change's own row does."""


_CHANGED = select(*ENTRY_COLUMNS).where(
    rung_entries.c.level == bindparam("at"),
    rung_entries.c.experiment_id == bindparam("experiment_id"),
    rung_entries.c.changed_position > bindparam("position"),
)
"""What a rung's snapshot of a position does not tell."""


class _Columns(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot holds, little-endian."""

    trial_ids: list[str]
    rank_values: bytes
    placed_positions: bytes
    waits: bytes


def encode(ranking: Ranking) -> bytes:
    """Return a ranking as bytes."""
    columns = _Columns(
        list(ranking.trial_ids),
        ranking.rank_values.astype("<f8").tobytes(),
        ranking.placed_positions.astype("<i8").tobytes(),
        ranking.waits.tobytes(),
    )
    return msgspec.msgpack.encode(columns)


def decode(body: bytes) -> Ranking:
    """Return the ranking that was encoded.

    Raises:
        ValueError: it is none.
    """
    columns = msgspec.msgpack.decode(body, type=_Columns)
    values, positions = np.frombuffer(columns.rank_values, "<f8"), np.frombuffer(columns.placed_positions, "<i8")
    if columns.waits.strip(b"\0\1"):
        message = "a snapshot's column `waits` holds what is neither true nor false"
        raise ValueError(message)
    waits = np.frombuffer(columns.waits, np.bool_)
    if len({len(columns.trial_ids), len(values), len(positions), len(waits)}) != 1:
        message = f"a snapshot's columns have {len(columns.trial_ids)} trials and {len(values)} values"
        raise ValueError(message)
    return Ranking(columns.trial_ids, values, positions, waits)


def due_snapshots(state: ExperimentState) -> list[RowValues]:
    """Return the snapshots that are to be written together with what the state has touched."""
    touched = state.touched.rung_entries
    for level, _ in touched:
        state.changed_since_snapshot[level] += 1
    found: list[RowValues] = []
    for level in {level for level, _ in touched}:
        rung = state.rungs[level]
        if state.changed_since_snapshot[level] >= max(_LEAST_CHANGED, _MOST_CHANGED_SHARE * len(rung)):
            key = {"experiment_id": state.experiment_id, "level": level}
            found.append(key | {"position": state.position, "body": encode(rung.ranking())})
            state.changed_since_snapshot[level] = 0
    return found


def snapshot_positions(connection: Connection, experiment_id: str) -> Mapping[int, int]:
    """Return up to which position of the stream each rung's snapshot reflects it, by level."""
    query = select(rung_snapshots.c.level, rung_snapshots.c.position)
    rows = connection.execute(query.where(rung_snapshots.c.experiment_id == experiment_id))
    return {row.level: row.position for row in rows}


def load_rankings(connection: Connection, experiment_id: str, levels: Collection[int]) -> Mapping[int, Ranking]:
    """Return the rankings of an experiment's rungs, by level, as far as its rows reflect the stream.

    Raises:
        ValueError: a snapshot cannot be read.
    """
    rows = connection.execute(select(rung_snapshots).where(rung_snapshots.c.experiment_id == experiment_id)).all()
    written = {row.level: (row.position, decode(row.body)) for row in rows}
    rankings: dict[int, Ranking] = {}
    for level in levels:
        position, ranking = written.get(level, (0, NOBODY))
        found = connection.execute(_CHANGED, {"experiment_id": experiment_id, "at": level, "position": position})
        rankings[level] = ranking.with_changes([entry_of(*values) for values in found])
    return rankings

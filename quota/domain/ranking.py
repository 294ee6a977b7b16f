"""The entries of a rung in order of rank, as columns: what planning asks of entries by the thousand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quota.domain.first_passage import Floats
from quota.domain.rung_entry import RungEntry

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """All entries of one rung, best first, equals in order of their placing.

    Attributes:
        trial_ids: Of n trials.
        rank_values: Shape (n,). What they are ranked by, ascending.
        placed_positions: Shape (n,). Positions of the events that placed them.
        waits: Shape (n,). Whether each is paused here, whether its checkpoint is there or not.
        ranks: By trial, from 1.
    """

    trial_ids: Sequence[str]
    rank_values: Floats
    placed_positions: Integers
    waits: Flags
    ranks: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        """Number them."""
        object.__setattr__(self, "ranks", dict(zip(self.trial_ids, range(1, len(self.trial_ids) + 1), strict=True)))

    def __len__(self) -> int:
        return len(self.trial_ids)

    @classmethod
    def of(cls, entries: Collection[RungEntry]) -> Ranking:
        """Return the ranking of entries, of one trial each, in any order."""
        return NOBODY.with_changes(entries)

    def ranks_of_equals(self, trial_ids: Iterable[str]) -> Integers:
        """Return for each of some trials the rank of the best entry that its own equals: its own where none does."""
        values = self.rank_values[np.array([self.ranks[one] - 1 for one in trial_ids], dtype=np.int64)]
        ranks: Integers = np.searchsorted(self.rank_values, values) + 1
        return ranks

    def rows(self) -> Iterator[tuple[str, float, int, bool]]:
        """Yield what it says of each trial, best first, in the order of the columns."""
        columns = (self.rank_values.tolist(), self.placed_positions.tolist(), self.waits.tolist())
        return zip(self.trial_ids, *columns, strict=True)

    def with_changes(self, entries: Collection[RungEntry]) -> Ranking:
        """Return the ranking with these entries, instead of what it has of their trials."""
        if not entries:
            return self
        stay = np.ones(len(self), dtype=np.bool_)
        stay[[rank - 1 for entry in entries if (rank := self.ranks.get(entry.trial_id)) is not None]] = False
        values = np.concatenate((self.rank_values[stay], [entry.rank_value for entry in entries]))
        positions = np.concatenate((self.placed_positions[stay], [entry.placed_position for entry in entries]))
        waits = np.concatenate((self.waits[stay], [entry.waits for entry in entries]))
        trial_ids = [self.trial_ids[index] for index in np.flatnonzero(stay).tolist()]
        trial_ids.extend(entry.trial_id for entry in entries)
        # No two entries are placed by one event.
        order = np.lexsort((positions, values))
        return Ranking([trial_ids[index] for index in order.tolist()], values[order], positions[order], waits[order])


NOBODY = Ranking((), np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.bool_))
"""That of a rung without entries."""

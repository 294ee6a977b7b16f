"""A rung: its entries in order of rank, and those among them that are paused with a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sortedcontainers import SortedList

OrderKey = tuple[float, int, str]


@dataclass(slots=True)
class RungEntry:
    """One trial's place in a rung.

    Attributes:
        trial_id: The trial.
        metric: As reported when it was paused there.
        rank_value: What it is ranked by: smaller is better; infinite where the metric is not finite.
        placed_position: Position of the event that placed it: the pause, or later the promotion, since a promoted
            entry moves behind its equals.
        promoted: Whether it has been resumed from here.
        has_checkpoint: Whether it is paused here with a stored checkpoint, and so may be evicted and is compared
            with each new report.
    """

    trial_id: str
    metric: float
    rank_value: float
    placed_position: int
    promoted: bool = False
    has_checkpoint: bool = False

    @property
    def key(self) -> OrderKey:
        """By this it is sorted; ties in order of arrival."""
        return (self.rank_value, self.placed_position, self.trial_id)


def rank_value(mode: str, metric: float) -> float:
    """Return what a metric is ranked by: smaller is better, and what is not finite ranks last."""
    if not math.isfinite(metric):
        return math.inf
    return -metric if mode == "max" else metric


class Rung:
    """The entries of one rung level. Each change costs O(log n) in their number, so does a rank.

    Args:
        level: The rung's level, in units of resource.
        promotion_quantile: The fraction of its entries that may be promoted.
        entries: Those that it has by now, of one trial each.

    Attributes:
        level: As given.
        promotion_quantile: As given.
        entries: By trial; promoted ones included.
    """

    def __init__(self, level: int, promotion_quantile: float, entries: Iterable[RungEntry] = ()) -> None:
        self.level = level
        self.promotion_quantile = promotion_quantile
        self.entries: dict[str, RungEntry] = {entry.trial_id: entry for entry in entries}
        self._order: SortedList[OrderKey] = SortedList(entry.key for entry in self.entries.values())
        self._compared: SortedList[OrderKey] = SortedList(
            entry.key for entry in self.entries.values() if entry.has_checkpoint
        )

    def __len__(self) -> int:
        return len(self.entries)

    def place(self, entry: RungEntry) -> None:
        """Put `entry` in; an earlier one of the same trial goes."""
        earlier = self.entries.pop(entry.trial_id, None)
        if earlier is not None:
            self._order.remove(earlier.key)
            if earlier.has_checkpoint:
                self._compared.remove(earlier.key)
        self.entries[entry.trial_id] = entry
        self._order.add(entry.key)
        if entry.has_checkpoint:
            self._compared.add(entry.key)

    def mark_checkpoint(self, trial_id: str, *, present: bool) -> bool:
        """Note whether a trial is paused here with a checkpoint.

        Returns:
            Whether that changed anything.
        """
        entry = self.entries[trial_id]
        if entry.has_checkpoint == present:
            return False
        entry.has_checkpoint = present
        if present:
            self._compared.add(entry.key)
        else:
            self._compared.remove(entry.key)
        return True

    def rank(self, trial_id: str) -> int:
        """Return the trial's rank among all entries; 1 is the best."""
        return int(self._order.index(self.entries[trial_id].key)) + 1

    def rank_of_equals(self, trial_id: str) -> int:
        """Return the rank of the best entry that the trial's equals; its own where there is no other."""
        return int(self._order.bisect_left((self.entries[trial_id].rank_value, -1, ""))) + 1

    def in_order(self) -> Iterator[str]:
        """Yield the ids of all entries, best first."""
        for key in self._order:
            yield key[2]

    def compare(self, value: float, trial_id: str) -> tuple[int, int]:
        """Compare a new report with each trial that is paused here with a checkpoint, its own trial excepted.

        Returns:
            (ones, total): against how many `value` is better or equal, of how many.
        """
        total = len(self._compared)
        ones = total - int(self._compared.bisect_left((value, -1, "")))
        own = self.entries.get(trial_id)
        if own is not None and own.has_checkpoint:
            return ones - (own.rank_value >= value), total - 1
        return ones, total

    def candidates(self) -> Iterator[tuple[int, RungEntry]]:
        """Yield (rank, entry) of the trials paused here with a checkpoint, best first."""
        for key in self._compared:
            yield int(self._order.index(key)) + 1, self.entries[key[2]]


class RankedRung(Rung):
    """A rung to plan by: of its entries no more than the candidates are at hand, and nothing is placed in it.

    Args:
        level: The rung's level, in units of resource.
        promotion_quantile: The fraction of its entries that may be promoted.
        length: How many entries it has.
        ranked: Rank, rank of the best equal, and entry of its candidates, best first.
    """

    def __init__(
        self, level: int, promotion_quantile: float, length: int, ranked: Sequence[tuple[int, int, RungEntry]]
    ) -> None:
        super().__init__(level, promotion_quantile)
        self._length = length
        self._ranked = ranked
        self._equals = {entry.trial_id: rank_of_equals for _, rank_of_equals, entry in ranked}

    def __len__(self) -> int:
        return self._length

    def rank_of_equals(self, trial_id: str) -> int:
        """Return the rank of the best entry that the trial's equals; its own where there is no other."""
        return self._equals[trial_id]

    def candidates(self) -> Iterator[tuple[int, RungEntry]]:
        """Yield (rank, entry) of the trials paused here with a checkpoint, best first."""
        for rank, _, entry in self._ranked:
            yield rank, entry

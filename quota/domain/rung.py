"""A rung: its entries in order of rank, and those among them that are paused with a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sortedcontainers import SortedList

from quota.domain.ranking import Ranking
from quota.domain.rung_entry import OrderKey, RungEntry


class Rung:
    """The entries of one rung level. Each change costs O(log n) in their number.

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
        self._ranking: Ranking | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def place(self, entry: RungEntry) -> None:
        """Put `entry` in; an earlier one of the same trial goes."""
        self._ranking = None
        earlier = self.entries.pop(entry.trial_id, None)
        if earlier is not None:
            self._order.remove(earlier.key)
            if earlier.has_checkpoint:
                self._compared.remove(earlier.key)
        self.entries[entry.trial_id] = entry
        self._order.add(entry.key)
        if entry.has_checkpoint:
            self._compared.add(entry.key)

    def mark(self, trial_id: str, *, waits: bool, has_checkpoint: bool, position: int) -> bool:
        """Note whether a trial is paused here, and whether with a checkpoint.

        Args:
            trial_id: The trial, which has an entry.
            waits: See `RungEntry`.
            has_checkpoint: See there.
            position: Position of the event that says so.

        Returns:
            Whether that changed anything.
        """
        entry = self.entries[trial_id]
        if (entry.waits, entry.has_checkpoint) == (waits, has_checkpoint):
            return False
        if entry.waits != waits:
            self._ranking = None
        if entry.has_checkpoint != has_checkpoint:
            (self._compared.add if has_checkpoint else self._compared.remove)(entry.key)
        entry.waits, entry.has_checkpoint, entry.changed_position = waits, has_checkpoint, position
        return True

    def ranking(self) -> Ranking:
        """Return all entries in order; made anew only where that has changed, in O(n log n)."""
        if self._ranking is None:
            self._ranking = Ranking.of(self.entries.values())
        return self._ranking

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
        ranking: All of them.
        candidates: Those that are paused here with a checkpoint.
    """

    def __init__(
        self, level: int, promotion_quantile: float, ranking: Ranking, candidates: Sequence[RungEntry]
    ) -> None:
        super().__init__(level, promotion_quantile)
        self._ranking = ranking
        self._candidates = candidates

    def __len__(self) -> int:
        return len(self.ranking())

    def candidates(self) -> Iterator[tuple[int, RungEntry]]:
        """Yield (rank, entry) of the trials paused here with a checkpoint, best first."""
        ranks = self.ranking().ranks
        for entry in sorted(self._candidates, key=lambda one: ranks[one.trial_id]):
            yield ranks[entry.trial_id], entry

"""What an operator has read and approved: a sweep that has it takes nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from quota.domain.events import EvictionDecided


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An allow-list. What is not in it is neither evicted nor purged, whatever limits ask for.

    Attributes:
        made_at: The time that the approved plan was made for.
        digest: SHA-256 of what was approved, in hexadecimal.
        evictions: Checkpoints that may be evicted, and deleted for good: experiment, place, and position of the event
            that saved them; what was saved there later is another checkpoint.
        purges: Decisions whose trash may be deleted for good, with their experiments.
    """

    made_at: datetime
    digest: str
    evictions: frozenset[tuple[str, str, int]] = field(default=frozenset())
    purges: frozenset[tuple[str, str]] = field(default=frozenset())

    def may_evict(self, experiment_id: str, uri: str, saved_position: int) -> bool:
        """Tell whether a checkpoint may be evicted."""
        return (experiment_id, uri, saved_position) in self.evictions

    def may_carry_out(self, experiment_id: str, decided: EvictionDecided) -> bool:
        """Tell whether what a decision has claimed may be moved, and what it has put into the trash be deleted."""
        return (experiment_id, decided.decision_id) in self.purges or self.may_evict(
            experiment_id, decided.uri, decided.checkpoint_position
        )

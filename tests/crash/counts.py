"""What came of killing processes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

AT_RANDOM = "a random time"


@dataclass
class Summary:
    """What came of one pair, or of all.

    Attributes:
        killed: How often a process was killed at each point, and at random times.
        violated: How many violations were found after a kill there; none of them may be its own.
        processes: How many there were in all, those that came through included.
        violations: What did not hold afterwards.
        never_reached: Points that no process came to, though it could.
        seconds: How long it took.
    """

    killed: Counter[str] = field(default_factory=Counter)
    violated: Counter[str] = field(default_factory=Counter)
    processes: int = 0
    violations: list[str] = field(default_factory=list)
    never_reached: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def shown(self) -> dict[str, Any]:
        """Return the counts in all."""
        kills, random_kills = sum(self.killed.values()), self.killed[AT_RANDOM]
        return {
            "points_killed": len(+self.killed) - (random_kills > 0),
            "kills_at_points": kills - random_kills,
            "random_kills": random_kills,
            "processes": self.processes,
            "never_reached": self.never_reached,
            "violations": len(self.violations),
            "seconds": round(self.seconds),
            "kills_a_minute": round(60 * kills / self.seconds) if self.seconds else 0,
        }

    def by_point(self) -> dict[str, dict[str, int]]:
        """Return the counts of each point."""
        points = {**self.killed, **self.violated}
        return {one: {"kills": self.killed[one], "violations": self.violated[one]} for one in points}

    def add(self, other: Summary) -> None:
        """Count what came of another pair, too."""
        self.killed += other.killed
        self.violated += other.violated
        self.processes += other.processes
        self.violations += other.violations
        self.never_reached += other.never_reached

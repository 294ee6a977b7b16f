"""What a sweep would do, as a value: a pure function of the state, the limits and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from quota.domain.held_back import HeldBack
from quota.domain.holdings import Holdings
from quota.domain.limits import Limit, Reserve
from quota.domain.policies import Candidate
from quota.domain.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A limit in numbers, at one moment.

    Attributes:
        usage: What counts.
        high: A sweep starts above this.
        low: A sweep stops here.
    """

    usage: int
    high: int
    low: int

    @classmethod
    def of(cls, limit: Limit, held: Holdings, space: Space | None = None) -> Target:
        """Return a limit's numbers.

        Args:
            limit: The limit.
            held: What is held within its scope.
            space: For one on free space, how full the file system is; what is used of it counts then.

        Raises:
            ValueError: it is on free space, and that is not given.
        """
        if not limit.is_of_free_space:
            return cls(usage=held.used(limit.measure), high=limit.high, low=limit.low)
        if space is None:
            message = f"{limit.scope}: its free space is not given"
            raise ValueError(message)
        return cls(
            usage=space.total_bytes - space.free_bytes,
            high=space.total_bytes - limit.least_free_bytes(space),
            low=space.total_bytes - limit.wanted_free_bytes(space),
        )

    def is_exceeded_without(self, leaving: int) -> bool:
        """Tell whether a sweep starts, when so much is about to leave anyway."""
        return self.usage - leaving > self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to evict from one experiment under one limit, and why.

    Attributes:
        experiment_id: The experiment.
        state_position: Position of its stream that the plan rests on.
        planned_at: The time that it was made for.
        limit: The limit that calls for it.
        target: Its numbers.
        scored: All that could be evicted, in the order in which it was scored; empty where the limit holds.
        purges: Decisions whose trash has to go, whatever its retention, oldest first.
        evictions: What to evict, first to last.
        after: What will count under the limit when all of the plan, and of others under the same limit, is carried out.
        runner_up: What would have gone next under the limit, of whatever experiment.
        reserves: Those that it leaves something for; none where the limit is the experiment's own.
        held_back: Where the limit will not hold: how many checkpoints are kept all the same, by reason.
    """

    experiment_id: str
    state_position: int
    planned_at: datetime
    limit: Limit
    target: Target
    scored: tuple[Candidate, ...] = ()
    purges: tuple[str, ...] = ()
    evictions: tuple[Candidate, ...] = ()
    after: int
    runner_up: Candidate | None = None
    reserves: tuple[Reserve, ...] | None = None
    held_back: Mapping[HeldBack, int] = field(default_factory=dict)

    @property
    def usage(self) -> int:
        """What counts under the limit now."""
        return self.target.usage

    @property
    def is_to_be_done(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.purges or self.evictions)

    @property
    def kept(self) -> dict[HeldBack, int]:
        """How many checkpoints are kept, by reason, where `evictions` is not carried out."""
        left: dict[HeldBack, int] = {"left": len(self.evictions)} if self.evictions else {}
        return left | dict(self.held_back)

    @property
    def shortfall(self) -> int:
        """How far above the high watermark the plan would leave the limit; 0 where it will hold."""
        return max(0, self.after - self.target.high)

    def within(self, most: int, most_bytes: int) -> Plan:
        """Return the plan as far as one run may carry it out: it ends with the eviction that reaches a bound.

        Args:
            most: How many evictions are left to the run.
            most_bytes: How many bytes are.
        """
        size_bytes = 0
        for number, candidate in enumerate(self.evictions):
            if number >= most or size_bytes >= most_bytes:
                return replace(self, evictions=self.evictions[:number])
            size_bytes += candidate.size_bytes
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPlan:
    """What to evict under a limit that several experiments share.

    Attributes:
        limit: The limit.
        target: Its numbers.
        parts: The plan of each experiment that it takes anything of, by their ids.
        after: What will count under the limit when all parts are carried out.
        reserved: URIs of what would go too, if no reserve asked for it.
        held_back: Where it will not hold: how many checkpoints are kept all the same, by reason.
    """

    limit: Limit
    target: Target
    parts: tuple[Plan, ...] = ()
    after: int
    reserved: frozenset[str] = frozenset()
    held_back: Mapping[HeldBack, int] = field(default_factory=dict)

    @property
    def purges(self) -> tuple[str, ...]:
        """Decisions whose trash has to go, whatever its retention."""
        return tuple(decision_id for part in self.parts for decision_id in part.purges)

    @property
    def kept(self) -> dict[HeldBack, int]:
        """How many checkpoints are kept, by reason, where its parts are not carried out."""
        number = sum(len(part.evictions) for part in self.parts)
        left: dict[HeldBack, int] = {"left": number} if number else {}
        return left | dict(self.held_back)

    @property
    def shortfall(self) -> int:
        """How far above the high watermark the plan would leave the limit; 0 where it will hold."""
        return max(0, self.after - self.target.high)

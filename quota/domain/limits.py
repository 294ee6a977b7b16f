"""What operators have set: limits, what is always kept, and what is pinned by scope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from quota.domain.events.limits import LimitMeasure, ReserveMeasure
from quota.domain.scopes import Scope
from quota.domain.space import Space

_HUNDRED = 100


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in force. `LimitSet` says what is counted.

    Attributes:
        scope: What it holds for, as `Scope.text` has it.
        measure: What is counted.
        high: A sweep starts above this; for free space it starts below it.
        low: A sweep stops here. For free space this is the larger one, and what is free after a sweep.
        set_at: When it was set.
        actor: Who set it.
    """

    scope: str
    measure: LimitMeasure
    high: int
    low: int
    set_at: datetime
    actor: str

    @property
    def numbers(self) -> tuple[str, str, int, int]:
        """What it asks for, whoever set it when."""
        return self.scope, self.measure, self.high, self.low

    @property
    def parsed_scope(self) -> Scope:
        """What it holds for."""
        return Scope.parse(self.scope)

    @property
    def is_of_free_space(self) -> bool:
        """Whether it says what has to stay free, and not what may be used."""
        return self.measure in {"free_bytes", "free_percent"}

    def is_exceeded(self, used: int, space: Space | None = None) -> bool:
        """Tell whether a sweep starts. `used` counts under a limit on what is used, `space` under one on what is free.

        A limit on free space holds where nobody can tell how much that is.
        """
        if not self.is_of_free_space:
            return used > self.high
        return space is not None and space.free_bytes < self.least_free_bytes(space)

    def least_free_bytes(self, space: Space) -> int:
        """Return what has to stay free at least under a limit on free space."""
        return _of_file_system(self.high, self.measure, space)

    def wanted_free_bytes(self, space: Space) -> int:
        """Return what is to be free after a sweep under a limit on free space."""
        return _of_file_system(self.low, self.measure, space)


def _of_file_system(amount: int, measure: LimitMeasure, space: Space) -> int:
    # A part of a byte that is called for is a whole one.
    return amount if measure == "free_bytes" else -(-space.total_bytes * amount // _HUNDRED)


@dataclass(frozen=True, slots=True)
class Reserve:
    """What a team or an experiment keeps, whatever limits further out ask for. `ReserveSet` says what is counted.

    Attributes:
        scope: Whose it is.
        measure: What is counted.
        amount: How much of it stays.
        set_at: When it was set.
        actor: Who set it.
    """

    scope: str
    measure: ReserveMeasure
    amount: int
    set_at: datetime
    actor: str

    @property
    def parsed_scope(self) -> Scope:
        """Whose it is."""
        return Scope.parse(self.scope)


@dataclass(frozen=True, slots=True)
class ScopePin:
    """Checkpoints that are kept, present and future ones, by what they belong to.

    Attributes:
        scope: What is pinned.
        pinned_at: Since when.
        actor: Who pinned it.
    """

    scope: str
    pinned_at: datetime
    actor: str

    @property
    def parsed_scope(self) -> Scope:
        """What is pinned."""
        return Scope.parse(self.scope)


@dataclass(frozen=True, slots=True)
class EffectiveLimit:
    """A limit as it is settled.

    Attributes:
        limit: As it was set.
        scope: What it holds for here: of a limit on `experiments`, one experiment.
    """

    limit: Limit
    scope: Scope


def effective_limits(limits: Iterable[Limit], experiment_ids: Iterable[str]) -> list[EffectiveLimit]:
    """Return the limits in the order in which they are settled, innermost first.

    A limit on `experiments` becomes one for each experiment that has none of its own by the same measure.
    """
    ordered = sorted(limits, key=lambda limit: (*limit.parsed_scope.order, limit.measure))
    own = {(limit.scope, limit.measure) for limit in ordered}
    known = sorted(experiment_ids)
    found: list[EffectiveLimit] = []
    for limit in ordered:
        scope = limit.parsed_scope
        if scope.kind != "experiments":
            found.append(EffectiveLimit(limit, scope))
            continue
        each = (Scope.of_experiment(experiment_id) for experiment_id in known)
        found += [EffectiveLimit(limit, one) for one in each if (one.text, limit.measure) not in own]
    return found


def is_pinned_by_scope(pinned: Iterable[Scope], experiment_id: str, labels: Mapping[str, str], uri: str) -> bool:
    """Tell whether a checkpoint is pinned by what it belongs to; `DeploymentState.pinned_scopes` says what is."""
    return any(scope.contains(experiment_id, labels, uri) for scope in pinned)

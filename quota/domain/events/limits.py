"""Events of the stream `_deployment` about how much is kept: limits, reserves, and pins by scope."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from quota.domain.events.base import MAX_INTEGER, Event
from quota.domain.refusal import Refusal, RefusalKind
from quota.domain.scopes import ScopeKind, scope_refusal

LimitMeasure = Literal["checkpoints", "bytes", "free_bytes", "free_percent"]
ReserveMeasure = Literal["checkpoints", "bytes"]

Amount = Annotated[int, msgspec.Meta(ge=1, le=MAX_INTEGER)]

_MOST_CHECKPOINTS = 2**53
_MOST_PERCENT = 99
_FREE = ("free_bytes", "free_percent")
_DISKS: tuple[ScopeKind, ...] = ("store",)


class LimitSet(Event, frozen=True, kw_only=True):
    """An operator set a limit; one with the same scope and measure is replaced.

    Attributes:
        scope: What it holds for, as `Scope.text` has it: `experiment:<id>`, `experiments` for each experiment without
            one of its own, `label:<key>=<value>`, `store:<uri>`, `deployment`.
        measure: What is counted.
            `checkpoints`: each stored checkpoint of a trial that may still run, where a running trial counts at least
            one, written or not; within a store only what is written.
            `bytes`: the sizes of all checkpoints, stored, claimed and in the trash.
            `free_bytes`, `free_percent`: what is free on the file system of the store that the scope is, or lies in;
            no other scope has these.
        high: A sweep starts above this. Of free space it is what has to stay free at least: a sweep starts below it.
        low: A sweep stops here: not above `high`, and equal to it where there is no room between. Of free space it is
            what a sweep is to leave free: not below `high`.
    """

    TYPE: ClassVar[str] = "limit_set"

    scope: str
    measure: LimitMeasure
    high: Amount
    low: Amount

    def refusal(self) -> Refusal | None:
        """Check the scope and the watermarks."""
        if self.measure in _FREE:
            return scope_refusal(self.scope, _DISKS, "a limit on free space") or self._free_refusal()
        if self.low > self.high:
            reason = f"the low watermark must not be above the high one, which is {self.high}"
            return Refusal(RefusalKind.NUMBER, "low", self.low, reason)
        if self.measure == "checkpoints":
            refusal = _above(self.high, "high", _MOST_CHECKPOINTS, "checkpoints")
            if refusal is not None:
                return refusal
        return scope_refusal(self.scope)

    def _free_refusal(self) -> Refusal | None:
        if self.low < self.high:
            reason = f"what a sweep is to leave free must not be below what has to stay free, which is {self.high}"
            return Refusal(RefusalKind.NUMBER, "low", self.low, reason)
        if self.measure == "free_percent":
            return _above(self.high, "high", _MOST_PERCENT, "per cent") or _above(
                self.low, "low", _MOST_PERCENT, "per cent"
            )
        return None


class LimitRemoved(Event, frozen=True, kw_only=True):
    """An operator removed a limit.

    Attributes:
        scope: As it was set.
        measure: As it was set.
    """

    TYPE: ClassVar[str] = "limit_removed"

    scope: str
    measure: LimitMeasure


class ReserveSet(Event, frozen=True, kw_only=True):
    """An operator promised a team or an experiment what it always keeps; one of the same scope and measure is replaced.

    Whatever a limit asks for that experiments share, so much of what belongs to this scope is not evicted for it; where
    there is less, none of it is. What no trial would load is no part of it, and can always go. An experiment's own
    limits are not held back by it.

    Attributes:
        scope: `label:<key>=<value>` or `experiment:<id>`.
        measure: What is counted: stored `checkpoints`, or their `bytes`.
        amount: How much of that stays.
    """

    TYPE: ClassVar[str] = "reserve_set"

    scope: str
    measure: ReserveMeasure
    amount: Amount

    def refusal(self) -> Refusal | None:
        """Check the scope and the amount."""
        if self.measure == "checkpoints":
            refusal = _above(self.amount, "amount", _MOST_CHECKPOINTS, "checkpoints")
            if refusal is not None:
                return refusal
        return scope_refusal(self.scope, ("experiment", "label"), "a reserve")


class ReserveRemoved(Event, frozen=True, kw_only=True):
    """An operator took a reserve back.

    Attributes:
        scope: As it was set.
        measure: As it was set.
    """

    TYPE: ClassVar[str] = "reserve_removed"

    scope: str
    measure: ReserveMeasure


class ScopePinned(Event, frozen=True, kw_only=True):
    """An operator said that no checkpoint of a scope is to be evicted, present or future, until it is unpinned.

    Attributes:
        scope: What is pinned: `experiment:<id>`, `label:<key>=<value>`, `store:<uri>` or `deployment`.
    """

    TYPE: ClassVar[str] = "scope_pinned"

    scope: str

    def refusal(self) -> Refusal | None:
        """Check the scope."""
        return scope_refusal(self.scope, ("experiment", "label", "store", "deployment"), "a pin")


class ScopeUnpinned(Event, frozen=True, kw_only=True):
    """An operator took a pin of a scope back. What is pinned by hand stays pinned.

    Attributes:
        scope: As it was pinned.
    """

    TYPE: ClassVar[str] = "scope_unpinned"

    scope: str


def _above(amount: int, field: str, most: int, unit: str) -> Refusal | None:
    if amount <= most:
        return None
    return Refusal(RefusalKind.NUMBER, field, amount, f"at most {most} {unit}, so this must be <= {most}")

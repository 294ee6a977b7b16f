"""How to sweep, who watches, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from quota.domain.approval import Approval
from quota.domain.events import EvictionDecided, PolicyParameters
from quota.domain.held_back import HeldBack
from quota.domain.manifest import CLOCKS_APART
from quota.domain.plan import Plan
from quota.services.tally import Tally


class Progress(Protocol):
    """Watches a sweep."""

    def expect(self, checkpoints: int) -> None:
        """Learn that so many more checkpoints are to be moved."""
        ...

    def moved(self) -> None:
        """Learn that one of them is done with."""
        ...


class Silent:
    """Watches, and says nothing."""

    def expect(self, checkpoints: int) -> None:
        """Say nothing."""

    def moved(self) -> None:
        """Say nothing."""


@dataclass(slots=True)
class SweepReport:
    """What a sweep did.

    Attributes:
        sweep_id: Its id; None where there was nothing to do, so that nothing was recorded.
        plans: The plans that it carried out.
        tally: What became of the decisions.
        exceeded: Ids of the experiments whose own limits still do not hold.
        exceeded_scopes: Scopes of the limits that experiments share and that still do not hold.
        held_back: For each of both, how many checkpoints it holds by why they cannot be evicted.
        untrusted: Why nothing was evicted from an experiment whose log or projections contradict themselves, by id.
        left_alone: Why paused trials' checkpoints that were to be evicted were left where they are.
        is_capped: Whether it evicted as much as one run may, and left the rest to the next sweep.
        not_taken: Which checkpoints that a saved plan names it has not taken away all the same, and why.
        left_open: How many decisions that earlier sweeps did not end a saved plan leaves as they are.
    """

    sweep_id: str | None = None
    plans: list[Plan] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    exceeded: list[str] = field(default_factory=list)
    exceeded_scopes: list[str] = field(default_factory=list)
    held_back: dict[str, Mapping[HeldBack, int]] = field(default_factory=dict)
    untrusted: dict[str, str] = field(default_factory=dict)
    left_alone: list[str] = field(default_factory=list)
    is_capped: bool = False
    not_taken: list[str] = field(default_factory=list)
    left_open: int = 0

    def note_excess(self, experiment_id: str, kept: Mapping[HeldBack, int]) -> None:
        """Note that an experiment holds more than its own limits allow, and why."""
        if experiment_id not in self.exceeded:
            self.exceeded.append(experiment_id)
        self.held_back[experiment_id] = kept

    def note_shared_excess(self, scope: str, kept: Mapping[HeldBack, int]) -> None:
        """Note that more is held within a scope than a limit allows that experiments share, and why."""
        if scope not in self.exceeded_scopes:
            self.exceeded_scopes.append(scope)
        self.held_back[scope] = kept

    @property
    def has_failed(self) -> bool:
        """Whether somebody has to look into it: a store refused something, or an experiment contradicts itself."""
        return bool(self.tally.errors or self.untrusted)

    @property
    def excesses(self) -> list[tuple[str, str, Mapping[HeldBack, int]]]:
        """What holds more than it may: its name, what to call it, and what it holds by why that stays."""
        own = [(one, f"experiment {one}", self.held_back[one]) for one in self.exceeded]
        return own + [(one, one, self.held_back[one]) for one in self.exceeded_scopes]


@dataclass(frozen=True, slots=True)
class SweepOrder:
    """How to sweep.

    Attributes:
        parameters: The policy.
        retention: For how long what was evicted can be restored; zero deletes it at once.
        lease_term: For how long a sweeper that says nothing is waited for by the next one.
        most_evictions: After how many evictions the rest is left to the next sweep.
        most_evicted_bytes: After how many bytes it is.
        retry_forbidden: Whether to try again to delete what a store had to keep.
        clock_tolerance: How much later than it was saved a checkpoint may seem written and still be evicted.
        approval: Outside of this nothing is evicted, moved or purged; None where the sweep chooses by itself.
    """

    parameters: PolicyParameters
    retention: timedelta
    lease_term: timedelta = timedelta(minutes=1)
    most_evictions: int = 10_000
    most_evicted_bytes: int = 10**13
    retry_forbidden: bool = False
    clock_tolerance: timedelta = CLOCKS_APART
    approval: Approval | None = None

    def may_evict(self, experiment_id: str, uri: str, saved_position: int) -> bool:
        """Tell whether a checkpoint may be evicted."""
        return self.approval is None or self.approval.may_evict(experiment_id, uri, saved_position)

    def may_carry_out(self, experiment_id: str, decided: EvictionDecided) -> bool:
        """Tell whether what a decision calls for may be done."""
        return self.approval is None or self.approval.may_carry_out(experiment_id, decided)


def never() -> bool:
    """Do not stop."""
    return False

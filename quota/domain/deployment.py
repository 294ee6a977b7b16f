"""The state of the deployment: where deletion is allowed, what the limits are, which sweeps ran."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from quota.domain.events import (
    ClockAccepted,
    LimitRemoved,
    LimitSet,
    PolicyParameters,
    RecordedEvent,
    StoreAdded,
    StoreRemoved,
    SweepFinished,
    SweepStarted,
)
from quota.domain.events.deployment import ALL_EXPERIMENTS_SCOPE, EXPERIMENT_SCOPE
from quota.domain.locations import parse_location


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in force.

    Attributes:
        scope: What it holds for: `experiment:<id>` or `experiments`.
        measure: What is counted: `checkpoints`.
        high: A sweep starts above this many.
        low: A sweep stops at this many.
        set_at: When it was set.
        actor: Who set it.
    """

    scope: str
    measure: str
    high: int
    low: int
    set_at: datetime
    actor: str

    @property
    def numbers(self) -> tuple[str, str, int, int]:
        """What it asks for, whoever set it when."""
        return self.scope, self.measure, self.high, self.low


@dataclass(frozen=True, slots=True)
class Store:
    """A root below which checkpoints may be deleted.

    Attributes:
        uri: The root.
        store_id: What the root is marked with.
        added_at: When deletion was allowed.
        actor: Who allowed it.
        removed_at: When it was forbidden again; None while it is allowed.
    """

    uri: str
    store_id: str
    added_at: datetime
    actor: str
    removed_at: datetime | None = None


@dataclass(slots=True)
class Sweep:
    """One run of the sweeper.

    Attributes:
        sweep_id: Its id.
        started_at: When it began.
        actor: Who ran it.
        parameters: By which rule it chose.
        software_version: Version of the software that ran it.
        finished_at: When it ended; None while it runs, or where it was killed.
        decided: Evictions decided.
        evicted: Checkpoints taken away.
        failed: Evictions that the store refused.
        cancelled: Evictions given up.
        missing: Checkpoints that were not where the log said they were.
        freed_bytes: Bytes freed.
        exceeded: Ids of the experiments whose limits still did not hold.
        errors: The first of what stores said when they refused, and of why paused trials' checkpoints were left alone.
    """

    sweep_id: str
    started_at: datetime
    actor: str
    parameters: PolicyParameters
    software_version: str
    finished_at: datetime | None = None
    decided: int = 0
    evicted: int = 0
    failed: int = 0
    cancelled: int = 0
    missing: int = 0
    freed_bytes: int = 0
    exceeded: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(slots=True)
class DeploymentState:
    """What the stream `_deployment` adds up to, up to `position`.

    Attributes:
        position: Position of the last event that is in it; 0 before the first.
        known_stores: By root URI, removed ones included: their trash may still hold something.
        limits: By scope and measure.
        sweeps: Those that have not finished, by id.
        touched_sweeps: Those that changed since they were last stored, by id.
        touched_limits: Keys of limits that changed or went.
        touched_stores: Roots of stores that changed.
    """

    position: int = 0
    known_stores: dict[str, Store] = field(default_factory=dict)
    limits: dict[tuple[str, str], Limit] = field(default_factory=dict)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    touched_sweeps: dict[str, Sweep] = field(default_factory=dict)
    touched_limits: set[tuple[str, str]] = field(default_factory=set)
    touched_stores: set[str] = field(default_factory=set)

    @property
    def stores(self) -> dict[str, Store]:
        """The stores in which deletion is allowed, by root URI."""
        return {uri: store for uri, store in self.known_stores.items() if store.removed_at is None}

    def limit_for(self, experiment_id: str) -> Limit | None:
        """Return the limit on checkpoints that holds for an experiment: its own, or the one for each."""
        own = self.limits.get((f"{EXPERIMENT_SCOPE}{experiment_id}", "checkpoints"))
        return own or self.limits.get((ALL_EXPERIMENTS_SCOPE, "checkpoints"))

    def store_for(self, uri: str) -> Store | None:
        """Return the store that a checkpoint lies in: the one with the longest root, or None."""
        location = parse_location(uri)
        holding = [
            store
            for store in self.stores.values()
            if (root := parse_location(store.uri)).contains(location) and root.components != location.components
        ]
        return max(holding, key=lambda store: len(store.uri), default=None)

    def root_within(self, uri: str) -> str | None:
        """Return the root of a store that is, or lies in, a location; None where there is none."""
        location = parse_location(uri)
        return next((root for root in sorted(self.stores) if location.contains(parse_location(root))), None)


def fold_deployment(state: DeploymentState, event: RecordedEvent) -> None:
    """Take the next event of `_deployment` into `state`.

    Raises:
        KeyError: the event names what the stream never introduced.
        TypeError: the event does not belong to this stream.
    """
    match event.payload:
        case StoreAdded() as added:
            state.known_stores[added.uri] = Store(added.uri, added.store_id, event.occurred_at, event.actor)
            state.touched_stores.add(added.uri)
        case StoreRemoved() as removed:
            store = state.known_stores[removed.uri]
            state.known_stores[removed.uri] = replace(store, removed_at=event.occurred_at)
            state.touched_stores.add(removed.uri)
        case LimitSet() as limit:
            key = (limit.scope, limit.measure)
            state.limits[key] = Limit(limit.scope, limit.measure, limit.high, limit.low, event.occurred_at, event.actor)
            state.touched_limits.add(key)
        case LimitRemoved() as limit:
            state.limits.pop((limit.scope, limit.measure), None)
            state.touched_limits.add((limit.scope, limit.measure))
        case SweepStarted() as started:
            sweep = Sweep(
                sweep_id=started.sweep_id,
                started_at=event.occurred_at,
                actor=event.actor,
                parameters=started.parameters,
                software_version=started.software_version,
            )
            state.sweeps[sweep.sweep_id] = sweep
            state.touched_sweeps[sweep.sweep_id] = sweep
        case SweepFinished() as finished:
            _finish_sweep(state, event.occurred_at, finished)
        case ClockAccepted():
            # Whoever doubts the clock looks it up in the log.
            pass
        case _:
            message = f"{type(event.payload).__name__} does not belong to the deployment's stream"
            raise TypeError(message)
    state.position = event.position


def _finish_sweep(state: DeploymentState, at: datetime, finished: SweepFinished) -> None:
    sweep = state.sweeps.pop(finished.sweep_id)
    sweep.finished_at = at
    sweep.decided = finished.decided
    sweep.evicted = finished.evicted
    sweep.failed = finished.failed
    sweep.cancelled = finished.cancelled
    sweep.missing = finished.missing
    sweep.freed_bytes = finished.freed_bytes
    sweep.exceeded = finished.exceeded
    sweep.errors = finished.errors
    state.touched_sweeps[sweep.sweep_id] = sweep

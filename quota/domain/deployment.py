"""The state of the deployment: where deletion is allowed, what the limits are, which sweeps ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from quota.domain.archives import Archive, archives_after
from quota.domain.events import (
    ArchiveRestored,
    ClockAccepted,
    EventsRemoved,
    ExperimentArchived,
    LimitMeasure,
    LimitRemoved,
    LimitSet,
    PolicyParameters,
    RecordedEvent,
    ReserveRemoved,
    ReserveSet,
    ScopePinned,
    ScopeUnpinned,
    StoreAdded,
    StoreRemoved,
    SweepFinished,
    SweepStarted,
)
from quota.domain.identifiers import ORPHANS_STREAM
from quota.domain.limits import EffectiveLimit, Limit, Reserve, ScopePin, effective_limits, is_pinned_by_scope
from quota.domain.locations import Location, parse_location
from quota.domain.scopes import Scope


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
        exceeded: Ids of the experiments, and scopes of the limits that they share, that still did not hold.
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
        reserves: By scope and measure.
        pins: What is pinned by scope, by scope.
        sweeps: Those that have not finished, by id.
        archives: By experiment and URI.
        touched_archives: Keys of archives that changed.
        touched_sweeps: Those that changed since they were last stored, by id.
        touched_limits: Keys of limits that changed or went.
        touched_reserves: Likewise of reserves.
        touched_pins: Scopes that were pinned or unpinned.
        touched_stores: Roots of stores that changed.
    """

    position: int = 0
    known_stores: dict[str, Store] = field(default_factory=dict)
    limits: dict[tuple[str, str], Limit] = field(default_factory=dict)
    reserves: dict[tuple[str, str], Reserve] = field(default_factory=dict)
    pins: dict[str, ScopePin] = field(default_factory=dict)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    archives: dict[tuple[str, str], Archive] = field(default_factory=dict)
    touched_archives: set[tuple[str, str]] = field(default_factory=set)
    touched_sweeps: dict[str, Sweep] = field(default_factory=dict)
    touched_limits: set[tuple[str, str]] = field(default_factory=set)
    touched_reserves: set[tuple[str, str]] = field(default_factory=set)
    touched_pins: set[str] = field(default_factory=set)
    touched_stores: set[str] = field(default_factory=set)

    @property
    def stores(self) -> dict[str, Store]:
        """The stores in which deletion is allowed, by root URI."""
        return {uri: store for uri, store in self.known_stores.items() if store.removed_at is None}

    @property
    def pinned_scopes(self) -> tuple[Scope, ...]:
        """What is pinned by scope."""
        return tuple(pin.parsed_scope for pin in self.pins.values())

    @property
    def all_reserves(self) -> tuple[Reserve, ...]:
        """All reserves, by scope and measure."""
        return tuple(self.reserves[key] for key in sorted(self.reserves))

    def own_limits(self, experiment_id: str) -> list[EffectiveLimit]:
        """Return the limits that hold for one experiment alone: its own, or those for each one. Orphans have none."""
        if experiment_id == ORPHANS_STREAM:
            return []
        scope = Scope.of_experiment(experiment_id)
        return [one for one in effective_limits(self.limits.values(), [experiment_id]) if one.scope == scope]

    @property
    def shared_limits(self) -> list[EffectiveLimit]:
        """The limits that experiments share, innermost first."""
        return [one for one in effective_limits(self.limits.values(), ()) if one.scope.is_shared]

    def limit_of(self, experiment_id: str, scope: str, measure: LimitMeasure) -> Limit | None:
        """Return the limit that holds now where one with this scope and measure has called for an eviction.

        Of limits for one experiment alone it is the one that holds for it by now, its own or the one for each.
        """
        if Scope.parse(scope).is_shared:
            return self.limits.get((scope, measure))
        own = (one.limit for one in self.own_limits(experiment_id) if one.limit.measure == measure)
        return next(own, None)

    def pinning(self, experiment_id: str, labels: Mapping[str, str]) -> Callable[[str], bool]:
        """Return what tells of an experiment's places whether they are pinned by what they belong to."""
        pinned = [
            scope
            for scope in self.pinned_scopes
            if scope.kind == "store" or scope.contains(experiment_id, labels, None)
        ]
        return lambda uri: is_pinned_by_scope(pinned, experiment_id, labels, uri)

    def store_for(self, uri: str) -> Store | None:
        """Return the store that a checkpoint lies in: the one with the longest root, or None."""
        location = parse_location(uri)
        holding = self._stores_around(location)
        return _innermost(store for store in holding if parse_location(store.uri).components != location.components)

    def store_around(self, uri: str) -> Store | None:
        """Return the store that a place is, or lies in; it tells what is free where a limit's scope is that place."""
        return _innermost(self._stores_around(parse_location(uri)))

    def stores_near(self, uri: str) -> list[Store]:
        """Return the stores that a place is, lies in, or holds."""
        place = parse_location(uri)
        within = [store for store in self.stores.values() if place.contains(parse_location(store.uri))]
        return within or self._stores_around(place)

    def _stores_around(self, location: Location) -> list[Store]:
        return [store for store in self.stores.values() if parse_location(store.uri).contains(location)]

    def root_within(self, uri: str) -> str | None:
        """Return the root of a store that is, or lies in, a location; None where there is none."""
        location = parse_location(uri)
        return next((root for root in sorted(self.stores) if location.contains(parse_location(root))), None)


def _innermost(stores: Iterable[Store]) -> Store | None:
    return max(stores, key=lambda store: len(store.uri), default=None)


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
        case ReserveSet() | ReserveRemoved() | ScopePinned() | ScopeUnpinned() as kept:
            _fold_kept(state, event, kept)
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
        case ExperimentArchived() | EventsRemoved() | ArchiveRestored() as told:
            _fold_archive(state, event, told)
        case payload if not isinstance(payload, ClockAccepted):
            # Whoever doubts the clock looks that one up in the log.
            message = f"{type(payload).__name__} does not belong to the deployment's stream"
            raise TypeError(message)
    state.position = event.position


def _fold_archive(
    state: DeploymentState, event: RecordedEvent, payload: ExperimentArchived | EventsRemoved | ArchiveRestored
) -> None:
    for archive in archives_after(state.archives, payload, event.occurred_at, event.actor):
        state.archives[archive.experiment_id, archive.uri] = archive
        state.touched_archives.add((archive.experiment_id, archive.uri))


def _fold_kept(
    state: DeploymentState, event: RecordedEvent, payload: ReserveSet | ReserveRemoved | ScopePinned | ScopeUnpinned
) -> None:
    at, actor, scope = event.occurred_at, event.actor, payload.scope
    match payload:
        case ReserveSet(measure=measure, amount=amount):
            state.reserves[scope, measure] = Reserve(scope, measure, amount, at, actor)
            state.touched_reserves.add((scope, measure))
        case ReserveRemoved(measure=measure):
            state.reserves.pop((scope, measure), None)
            state.touched_reserves.add((scope, measure))
        case ScopePinned():
            state.pins[scope] = ScopePin(scope, at, actor)
            state.touched_pins.add(scope)
        case ScopeUnpinned():
            state.pins.pop(scope, None)
            state.touched_pins.add(scope)


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

"""What operators say: where deletion is allowed, and what the limits are."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from quota.domain.deployment import DeploymentState, Store
from quota.domain.events import (
    Event,
    LimitMeasure,
    LimitRemoved,
    LimitSet,
    ReserveMeasure,
    ReserveRemoved,
    ReserveSet,
    ScopePinned,
    ScopeUnpinned,
    StoreAdded,
    StoreRemoved,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.limits import Limit, Reserve, ScopePin
from quota.domain.locations import parse_location
from quota.domain.mark import parse_mark
from quota.domain.refusal import Refusal
from quota.domain.scopes import Scope
from quota.domain.wire import recheck
from quota.errors import NotFound, PathRefused, StateRefused, StoreError
from quota.eventlog.database import Database
from quota.eventlog.locations import location_around
from quota.eventlog.log import Prepared
from quota.ports import Marks
from quota.projections.projector import Projector
from quota.services.appending import Appender
from quota.services.clock_guard import ClockGuard
from quota.services.ids import new_id
from quota.services.lineage import goes_on_from, strangeness
from quota.services.refusing import error_for
from quota.services.stores import OpenStore

E = TypeVar("E", bound=Event)


class Administration:
    """Changes the deployment, one event at a time.

    Args:
        database: Where the log lies.
        projector: Gives the deployment's state.
        appender: In whose name.
        open_store: Opens a store, to see that it can be.
        clock_guard: Doubts the clock.
    """

    def __init__(
        self,
        database: Database,
        projector: Projector,
        appender: Appender,
        open_store: OpenStore,
        clock_guard: ClockGuard,
    ) -> None:
        self._database = database
        self._projector = projector
        self._appender = appender
        self._open_store = open_store
        self._clock_guard = clock_guard

    def add_store(self, uri: str, *, take_over: bool = False) -> Store:
        """Allow deletion below a root, and mark it, so that no other place can pass for it.

        Where it is a store already, nothing changes; but one that has lost its mark (its disk was replaced, say) is
        marked anew, and so is one to be taken over that a newer copy of this database has swept.

        Args:
            uri: The root.
            take_over: Whether a root that another database has marked, or a newer copy of this one, is to be this one's
                from now on.

        Raises:
            PathRefused: the root is no URI, there is nothing, or the database lies below it, whatever leads there.
            StateRefused: it overlaps a store, lies in a checkpoint, or is another database's or a newer copy's.
            StoreError: it cannot be read or marked, or nobody can tell whether the database lies below it.
        """
        payload = self._checked(StoreAdded(uri=uri, store_id=new_id()), f"store {uri}")
        opened = self._open_store(uri)
        self._refuse_own_database(uri)
        prepared = Prepared.of(self._appender.event(DEPLOYMENT_STREAM, payload))
        with self._appender.log.locked([DEPLOYMENT_STREAM]) as streams:
            stream = streams[DEPLOYMENT_STREAM]
            known = self._projector.look_at_deployment(stream.connection)
            marks = opened.marks()
            store = known.stores.get(uri)
            own = parse_mark(marks.own or "")
            is_own = store is not None and store.store_id == own.store_id
            is_ours = own.store_id in {one.store_id for one in known.known_stores.values()}
            if is_ours and not goes_on_from(self._appender.log, stream.connection, own):
                # Not even where it was removed meanwhile: a newer copy goes on with it.
                if not take_over:
                    raise StateRefused(f"store {uri}", "uri", uri, strangeness(uri, own))
            elif store is not None and is_own:
                return store
            _refuse_overlap(known, uri)
            _refuse_checkpoint(stream.connection, uri)
            _refuse_marks(known, uri, replace(marks, own=None) if is_own else marks, take_over=take_over)
            self._appender.log.add(stream, prepared)
            opened.mark(payload.store_id)
            return self._projector.store_deployment(stream).stores[uri]

    def remove_store(self, uri: str) -> None:
        """Forbid deletion below a root again. What is in its trash stays there.

        Raises:
            NotFound: there is no such store.
        """
        if uri not in self.look().stores:
            raise NotFound(f"store {uri}: there is none; `ckpt-quota store list` lists them")
        self._record(StoreRemoved(uri=uri))

    def set_limit(self, limit: LimitSet) -> Limit:
        """Set a limit, or replace the one with the same scope and measure.

        Raises:
            BadInput: scope or watermarks are refused, or nobody can tell how much is free there.
            StoreError: the store whose free space is limited cannot be reached.
        """
        payload = self._checked(limit, f"limit of {limit.scope}")
        if payload.measure in {"free_bytes", "free_percent"}:
            self._refuse_endless(payload.scope)
        return self._record(payload).limits[payload.scope, payload.measure]

    def remove_limit(self, scope: str, measure: LimitMeasure = "checkpoints") -> None:
        """Remove a limit.

        Raises:
            NotFound: there is no such limit.
        """
        if (scope, measure) not in self.look().limits:
            raise NotFound(f"limit of {scope}: there is none on {measure}; `ckpt-quota limit list` lists them")
        self._record(LimitRemoved(scope=scope, measure=measure))

    def set_reserve(self, reserve: ReserveSet) -> Reserve:
        """Set a reserve, or replace the one with the same scope and measure.

        Raises:
            BadInput: scope or amount is refused.
        """
        payload = self._checked(reserve, f"reserve of {reserve.scope}")
        return self._record(payload).reserves[payload.scope, payload.measure]

    def remove_reserve(self, scope: str, measure: ReserveMeasure) -> None:
        """Remove a reserve.

        Raises:
            NotFound: there is no such reserve.
        """
        if (scope, measure) not in self.look().reserves:
            raise NotFound(f"reserve of {scope}: there is none on {measure}; `ckpt-quota reserve list` lists them")
        self._record(ReserveRemoved(scope=scope, measure=measure))

    def pin_scope(self, scope: str) -> ScopePin:
        """Keep all checkpoints of a scope from being evicted; where it is pinned already, nothing changes.

        Raises:
            BadInput: the scope is refused.
        """
        payload = self._checked(ScopePinned(scope=scope), f"pin of {scope}")
        return self.look().pins.get(scope) or self._record(payload).pins[scope]

    def unpin_scope(self, scope: str) -> None:
        """Let the checkpoints of a scope be evicted again, but for those that are pinned otherwise.

        Raises:
            NotFound: it is not pinned.
        """
        if scope not in self.look().pins:
            raise NotFound(f"pin of {scope}: there is none; `ckpt-quota pin --list` lists them")
        self._record(ScopeUnpinned(scope=scope))

    def accept_clock(self) -> datetime:
        """Say that the present time is right, though the log has events of a later one, or the clock was set.

        Returns:
            Up to when recorded times say nothing against it from now on.

        Raises:
            StateRefused: nobody doubts it.
        """
        accepted = self._clock_guard.accept()
        self._record(accepted)
        return accepted.until

    def look(self) -> DeploymentState:
        """Return the deployment as it is."""
        with self._database.read() as connection:
            return self._projector.look_at_deployment(connection)

    def _record(self, payload: Event) -> DeploymentState:
        prepared = Prepared.of(self._appender.event(DEPLOYMENT_STREAM, payload))
        with self._appender.log.locked([DEPLOYMENT_STREAM]) as streams:
            self._appender.log.add(streams[DEPLOYMENT_STREAM], prepared)
            return self._projector.store_deployment(streams[DEPLOYMENT_STREAM])

    @staticmethod
    def _checked(payload: E, thing: str) -> E:
        checked = recheck(payload)
        if isinstance(checked, Refusal):
            raise error_for(thing, checked)
        return checked

    def _refuse_endless(self, scope: str) -> None:
        """Refuse a limit on free space where nobody can tell what is free."""
        thing, place = f"limit of {scope}", Scope.parse(scope).name
        store = self.look().store_around(place)
        if store is None:
            reason = "this place is no store and lies in none; name a store (`ckpt-quota store list` lists them)"
            raise StateRefused(thing, "scope", scope, f"{reason}, or add it first: ckpt-quota store add ROOT")
        if self._open_store(store.uri).space() is None:
            reason = "a bucket has no end, so nothing has to stay free there; limit its bytes (--bytes 2TB, say)"
            raise StateRefused(thing, "scope", scope, reason)

    def _refuse_own_database(self, uri: str) -> None:
        path = self._database.path
        root = parse_location(uri)
        if path is None or root.scheme != "file":
            return
        try:
            is_below = _lies_below(path, Path("/", *(os.fsdecode(component) for component in root.components)))
        except OSError as error:
            said = f"cannot tell whether the database {path} lies below it: {error.strerror}: {error.filename}"
            raise StoreError(f"store {uri}: {said}; mend that, then try again") from error
        if is_below:
            reason = "the database's own file lies below this root; keep the two apart"
            raise PathRefused(f"store {uri}", "uri", uri, reason)


def _lies_below(file: Path, root: Path) -> bool:
    """Tell whether a file, or a link that leads to it, lies below a directory: links, bind mounts and all.

    Raises:
        OSError: a directory above the file cannot be looked at.
    """
    real_root = root.resolve()
    # SQLite keeps its journal beside what a link leads to; we keep the queue of writers beside the link.
    above = {*file.resolve().parents, file.parent.resolve(), *file.parent.resolve().parents}
    return real_root in above or (real_root.exists() and any(place.samefile(real_root) for place in above))


def _refuse_overlap(known: DeploymentState, uri: str) -> None:
    root = parse_location(uri)
    for other in known.stores.values():
        location = parse_location(other.uri)
        if other.uri != uri and (location.contains(root) or root.contains(location)):
            reason = f"it overlaps the store {other.uri}; one checkpoint would lie in both, so keep the wider one"
            raise StateRefused(f"store {uri}", "uri", uri, reason)


def _refuse_checkpoint(connection: Connection, uri: str) -> None:
    around = location_around(connection, uri)
    if around is not None:
        reason = (
            f"it is, or lies in, {around.location}, which trial {around.trial_id} of experiment {around.experiment_id} "
            "reported as a checkpoint; a store holds whole checkpoints, so name a place above it"
        )
        raise StateRefused(f"store {uri}", "uri", uri, reason)


def _refuse_marks(known: DeploymentState, uri: str, marks: Marks, *, take_over: bool) -> None:
    """Refuse a place that is, or lies in, a store under another name, or a store of another database."""
    in_use = {store.store_id: store.uri for store in known.stores.values()}
    ours = {store.store_id for store in known.known_stores.values()}
    for mark in (parse_mark(text).store_id for text in (marks.own, *marks.above) if text):
        if mark in in_use:
            reason = f"this place is, or lies in, the store {in_use[mark]} under another name; use that one"
            raise StateRefused(f"store {uri}", "uri", uri, reason)
        if mark not in ours and not take_over:
            reason = (
                f"this place is, or lies in, store {mark} of another database, or of a `store add` that was cut off; "
                "two databases must not manage one place. If no other one does, repeat this with --take-over"
            )
            raise StateRefused(f"store {uri}", "uri", uri, reason)

"""Named points at which a process can be made to kill itself, as by `kill -9`."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.client import BaseClient

import quota_local
import quota_s3
from crash.points import STORE_CALLS, SYSTEM_CALLS
from quota.bootstrap import Services
from quota.services.claiming import Claimer
from quota.services.orphans import OrphanTrasher
from quota.services.sweep_run import SweepRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from crash.refusals import Refusals
    from quota.eventlog.log import LockedStream
    from quota.ports import CheckpointStore

_FACTORIES = {"file": quota_local.open_store, "s3": quota_s3.open_store}
_request = getattr(BaseClient, "_make_api_call")  # noqa: B009 - it is not for us to call


class Fault:
    """Kills this process the `at`-th time that it comes to `point`, once it is armed.

    Args:
        point: Where; nowhere if it is empty.
        at: Which time.
        refusals: Make calls of stores fail besides.
    """

    def __init__(self, point: str, at: int, refusals: Refusals) -> None:
        self._point = point
        self._left = at
        self._is_armed = False
        self.refusals = refusals

    def pass_by(self, point: str) -> None:
        if point != self._point or not self._is_armed:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Pass by `before name` and `after name` with each call."""

        def wrapper(*args: Any, **keywords: Any) -> Any:  # noqa: ANN401 - those of the call
            self.pass_by(f"before {name}")
            answer = call(*args, **keywords)
            self.pass_by(f"after {name}")
            return answer

        return wrapper

    def arm(self, services: Services) -> None:
        """Make commits and the steps of sweeps and rebuilds points, for all that this process does from now on."""
        self._is_armed = True
        self._watch_commits(services)
        for name, owner, attribute in (
            ("plan of the sweep", SweepRun, "plan"),
            ("claim of the sweep", Claimer, "claim"),
            ("claim of orphans", OrphanTrasher, "_claim"),
            ("comparison with the stores", services.reconciler, "reconcile"),
            ("rebuild", services.rebuilder, "rebuild"),
            ("clearing of rows by the rebuild", services.rebuilder, "_clear"),
        ):
            setattr(owner, attribute, self.around(name, getattr(owner, attribute)))

    def open_store(self, root_uri: str) -> CheckpointStore:
        """Open a store whose calls are points, past the search for its adapter, which takes longer than all else."""
        store: CheckpointStore = _FACTORIES[root_uri.partition("://")[0]](root_uri)
        for name in STORE_CALLS:
            call = self.refusals.around(name, getattr(store, name))
            setattr(store, name, self._within(self.around(f"{name} of the store", call)))
        return store

    def _within(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Make the system calls and the requests of one call of the store points; what a trial does is none."""

        def requesting(client: BaseClient, operation: str, parameters: Any) -> Any:  # noqa: ANN401 - those of the call
            return self.around(f"{operation} by the store", _request)(client, operation, parameters)

        def wrapper(*args: Any, **keywords: Any) -> Any:  # noqa: ANN401 - those of the call
            real = {name: getattr(os, name) for name in SYSTEM_CALLS}
            try:
                for name, function in real.items():
                    setattr(os, name, self.around(f"{name} by the store", function))
                setattr(BaseClient, "_make_api_call", requesting)  # noqa: B010 - what all requests go through
                return call(*args, **keywords)
            finally:
                for name, function in real.items():
                    setattr(os, name, function)
                setattr(BaseClient, "_make_api_call", _request)  # noqa: B010

        return wrapper

    def _watch_commits(self, services: Services) -> None:
        flush, write = services.log.flush, services.database.write
        pending: list[str] = []

        def flushing(stream: LockedStream) -> None:
            types = [row["type"] for row in stream.pending]
            flush(stream)
            pending.extend(types)

        @contextmanager
        def writing() -> Iterator[Connection]:
            pending.clear()
            with write() as connection:
                yield connection
                for name in pending:
                    self.pass_by(f"before commit of {name}")
            for name in pending:
                self.pass_by(f"after commit of {name}")

        setattr(services.log, "flush", flushing)  # noqa: B010 - no type knows of this
        setattr(services.database, "write", writing)  # noqa: B010

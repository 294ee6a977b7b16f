"""Named points at which a process can be made to kill itself, as by `kill -9`."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.client import BaseClient

from quota.bootstrap import Services, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from quota.eventlog.log import LockedStream
    from quota.ports import CheckpointStore

STORE_CALLS = ("manifest", "trash", "restore", "require_purgeable", "purge", "trashed")
SYSTEM_CALLS = ("rename", "mkdir", "unlink", "rmdir", "fsync")
EVENTS = (
    "trial_started",
    "trial_reported",
    "trial_paused",
    "trial_resumed",
    "checkpoint_saved",
    "checkpoint_adopted",
    "checkpoint_pinned",
    "checkpoint_missing",
    "eviction_decided",
    "eviction_cancelled",
    "checkpoint_trashed",
    "checkpoint_restored",
    "purge_decided",
    "checkpoint_purged",
    "sweep_started",
    "sweep_finished",
)
REQUESTS = (
    "PutObject",
    "CopyObject",
    "GetObject",
    "DeleteObject",
    "DeleteObjects",
    "ListObjectsV2",
    "ListObjectVersions",
)
_ANYWHERE = (
    *(f"{when} {call} of the store" for call in STORE_CALLS for when in ("before", "after")),
    *(f"{when} commit of {name}" for name in EVENTS for when in ("before", "after")),
)
POINTS = {
    "local": (*_ANYWHERE, *(f"{when} {call} by the store" for call in SYSTEM_CALLS for when in ("before", "after"))),
    "s3": (*_ANYWHERE, *(f"{when} {call} by the store" for call in REQUESTS for when in ("before", "after"))),
}
"""By the kind of store."""


_request = getattr(BaseClient, "_make_api_call")  # noqa: B009 - it is not for us to call


class Fault:
    """Kills this process the `at`-th time that it comes to `point`."""

    def __init__(self, point: str, at: int) -> None:
        self._point = point
        self._left = at

    def pass_by(self, point: str) -> None:
        if point != self._point:
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

    def open_store(self, root_uri: str) -> CheckpointStore:
        """Open a store whose calls are points."""
        store = open_store(root_uri)
        for name in STORE_CALLS:
            setattr(store, name, self._within(self.around(f"{name} of the store", getattr(store, name))))
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

    def watch_commits(self, services: Services) -> None:
        """Make commits points."""
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

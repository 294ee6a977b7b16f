"""Asking before each request that changes anything whether this process still may: it may have been frozen before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from botocore.awsrequest import AWSPreparedRequest

_LOOKING = frozenset({"GET", "HEAD"})


def freely() -> None:
    """Let everything be requested."""


_require: ContextVar[Callable[[], None]] = ContextVar("require", default=freely)


@contextmanager
def fenced(require: Callable[[], None]) -> Iterator[None]:
    """Call `require` before each request of the block that changes anything, each time that it is tried."""
    token = _require.set(require)
    try:
        yield
    finally:
        _require.reset(token)


def require_leave(request: AWSPreparedRequest, **_: object) -> None:
    """Ask, as a handler of botocore's `before-send`."""
    if request.method not in _LOOKING:
        _require.get()()

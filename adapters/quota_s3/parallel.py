"""Several requests at a time, and never too many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

WORKERS = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(act: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Do `act` to each of `items`, and return what it returned, in their order.

    All are done in the caller's context. After a failure nothing new is begun, and what was begun comes to its end
    before this raises the failure.
    """
    if len(items) <= 1:
        return [act(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(WORKERS, len(items))) as pool:
        futures = [pool.submit(copy_context().run, act, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise

"""Auditing streams on several processors: a process each, which opens the database for itself."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from queue import Empty
from typing import TYPE_CHECKING

from quota.errors import QuotaError

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    from quota.bootstrap import Services
    from quota.services.heads import Head
    from quota.services.stream_audit import AuditOrder, StreamAudit

_WORTH_A_PROCESS = 20_000
"""How many events a process takes about as long for as to start."""

_LOOK_EVERY_SECONDS = 0.2


class _Worker:
    """What a process holds between its streams."""

    services: Services
    told: Queue[int]
    closing = ExitStack()


def jobs_for(events: int, streams: int, wanted: int | None) -> int:
    """Return how many processes are worth while, if nobody says how many are wanted."""
    if wanted is not None:
        return min(wanted, max(streams, 1))
    return max(1, min(os.cpu_count() or 1, streams, events // _WORTH_A_PROCESS))


def audit_here(
    services: Services, heads: Sequence[Head], order: AuditOrder, progress: Callable[[int], None]
) -> Iterator[tuple[Head, StreamAudit]]:
    """Audit streams one after the other."""
    from quota.services.stream_audit import audit_stream

    for head in heads:
        yield head, audit_stream(services.auditor, services.recomputer, head, order, progress)


def audit_with(
    jobs: int, url: str, actor: str, heads: Sequence[Head], order: AuditOrder, progress: Callable[[int], None]
) -> Iterator[tuple[Head, StreamAudit]]:
    """Audit streams in several processes, the long ones first; yield what they find as they do.

    Raises:
        QuotaError: what a process has raised, or that one was killed.
    """
    context = multiprocessing.get_context("spawn")
    told: Queue[int] = context.Queue()
    with ProcessPoolExecutor(jobs, context, _begin, (url, actor, told)) as pool:
        ordered = sorted(heads, key=lambda head: -head.position)
        named: dict[Future[StreamAudit], Head] = {pool.submit(_audited, head, order): head for head in ordered}
        left = set(named)
        while left:
            done, left = wait(left, timeout=_LOOK_EVERY_SECONDS, return_when=FIRST_COMPLETED)
            for more in _drained(told):
                progress(more)
            for future in done:
                yield named[future], _result(future)
        for more in _drained(told):
            progress(more)


def _result(future: Future[StreamAudit]) -> StreamAudit:
    try:
        return future.result()
    except BrokenProcessPool as error:
        message = "audit: one of its processes was killed, perhaps for want of memory; run it with --jobs 1"
        raise QuotaError(message) from error


def _begin(url: str, actor: str, told: Queue[int]) -> None:
    from quota.bootstrap import services

    _Worker.services = _Worker.closing.enter_context(services(url, actor))
    _Worker.told = told


def _audited(head: Head, order: AuditOrder) -> StreamAudit:
    from quota.services.stream_audit import audit_stream

    services = _Worker.services
    return audit_stream(services.auditor, services.recomputer, head, order, _Worker.told.put)


def _drained(told: Queue[int]) -> Iterator[int]:
    while True:
        try:
            yield told.get_nowait()
        except Empty:
            return

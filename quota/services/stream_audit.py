"""Auditing one stream: that its chain holds, and that its decisions follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import LogCorrupt, QuotaError
from quota.eventlog.reading import EventSource
from quota.eventlog.verifying import Fault
from quota.services.archived_log import ArchivedLog
from quota.services.auditing import Auditor
from quota.services.heads import Head
from quota.services.recomputing import Recomputed, Recomputer
from quota.services.removed_streams import RemovedStream


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOrder:
    """What is to be audited.

    Attributes:
        with_decisions: Whether decisions are recomputed.
        since: From when on, by their recorded time; None from the beginning.
        until: Until when, excluded; None to the end.
        removed: Streams whose events are in archives alone, as the deployment's own stream says, by id.
        with_archives: Whether these archives are read, and proved.
    """

    with_decisions: bool = True
    since: datetime | None = None
    until: datetime | None = None
    removed: Mapping[str, RemovedStream] = field(default_factory=dict)
    with_archives: bool = False


@dataclass(slots=True, kw_only=True)
class StreamAudit:
    """What an audit of one stream has found.

    Attributes:
        fault: Where its chain does not hold, or where it contradicts itself; then no decision is recomputed.
        decisions: How many decisions were recomputed.
        mismatched: Those that the events do not add up to.
        removed: Where its events are, if they are not in the log.
    """

    fault: Fault | None = None
    decisions: int = 0
    mismatched: list[Recomputed] = field(default_factory=list)
    removed: RemovedStream | None = None


def audit_stream(
    auditor: Auditor, recomputer: Recomputer, head: Head, order: AuditOrder, progress: Callable[[int], None]
) -> StreamAudit:
    """Verify a stream's chain, and recompute its decisions.

    Args:
        auditor: Verifies the chain.
        recomputer: Recomputes.
        head: Where the chain must end.
        order: What is wanted.
        progress: Is told how many more events have been read: each once for the chain, and once for the decisions.
    """
    removed = order.removed.get(head.experiment_id)
    if removed is not None:
        return _audit_archived(auditor, recomputer, head, removed, order, progress)
    found = StreamAudit(fault=auditor.verify(head, progress))
    if found.fault is None and order.with_decisions and head.experiment_id != DEPLOYMENT_STREAM:
        _recompute(recomputer, found, head.experiment_id, order, progress)
    return found


def _audit_archived(
    auditor: Auditor,
    recomputer: Recomputer,
    head: Head,
    removed: RemovedStream,
    order: AuditOrder,
    progress: Callable[[int], None],
) -> StreamAudit:
    """Compare a stream's head with what the deployment's stream says, and where that is wanted read the archive."""
    found = StreamAudit(fault=auditor.fault_of_removed(head, removed), removed=removed)
    if found.fault is not None or not order.with_archives:
        progress(head.position * (2 if order.with_decisions else 1))
        return found
    try:
        reader = removed.proved(head, progress)
        if order.with_decisions:
            source = ArchivedLog(reader, auditor.log)
            _recompute(recomputer, found, head.experiment_id, order, progress, source)
    except QuotaError as error:
        found.fault = Fault(head.experiment_id, 0, str(error))
    return found


def _recompute(
    recomputer: Recomputer,
    found: StreamAudit,
    experiment_id: str,
    order: AuditOrder,
    progress: Callable[[int], None],
    source: EventSource | None = None,
) -> None:
    try:
        for one in recomputer.recompute(experiment_id, progress, (order.since, order.until), source):
            found.decisions += 1
            if one.mismatches:
                found.mismatched.append(one)
    except LogCorrupt as error:
        found.fault = Fault(experiment_id, 0, str(error))

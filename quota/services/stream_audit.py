"""Auditing one stream: that its chain holds, and that its decisions follow from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import LogCorrupt
from quota.eventlog.verifying import Fault
from quota.services.auditing import Auditor, Head
from quota.services.recomputing import Recomputed, Recomputer


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOrder:
    """What is to be audited.

    Attributes:
        with_decisions: Whether decisions are recomputed.
        since: From when on, by their recorded time; None from the beginning.
        until: Until when, excluded; None to the end.
    """

    with_decisions: bool = True
    since: datetime | None = None
    until: datetime | None = None


@dataclass(slots=True, kw_only=True)
class StreamAudit:
    """What an audit of one stream has found.

    Attributes:
        fault: Where its chain does not hold, or where it contradicts itself; then no decision is recomputed.
        decisions: How many decisions were recomputed.
        mismatched: Those that the events do not add up to.
    """

    fault: Fault | None = None
    decisions: int = 0
    mismatched: list[Recomputed] = field(default_factory=list)


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
    found = StreamAudit(fault=auditor.verify(head, progress))
    if found.fault is not None or not order.with_decisions or head.experiment_id == DEPLOYMENT_STREAM:
        return found
    try:
        for one in recomputer.recompute(head.experiment_id, progress, (order.since, order.until)):
            found.decisions += 1
            if one.mismatches:
                found.mismatched.append(one)
    except LogCorrupt as error:
        found.fault = Fault(head.experiment_id, 0, str(error))
    return found

"""What sweeps and comparisons have to say, as log lines: the daemon's, or those of a command that cron runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from quota.services.findings import Finding, Kind, ReconcileReport
from quota.services.querying import Answer, Queries
from quota.services.sweep_order import SweepReport

logger = logging.getLogger(__name__)

_EVICTED = frozenset({"trashed", "purging", "forbidden", "purged"})
_MOST = 10**6
_LEFT_ALONE_TOLD = 20

_LEVELS: dict[Kind, int] = {
    "missing": logging.WARNING,
    "turned_up": logging.WARNING,
    "resized": logging.WARNING,
    "not_looked_into": logging.WARNING,
    "orphan": logging.INFO,
    "orphan_in_trash": logging.INFO,
    "young_orphan": logging.DEBUG,
}
_WORDS: dict[Kind, str] = {
    "missing": "is missing",
    "turned_up": "has turned up again",
    "resized": "has another size",
    "not_looked_into": "could not be looked into",
    "orphan": "belongs to no checkpoint",
    "orphan_in_trash": "belongs to no eviction",
    "young_orphan": "belongs to no checkpoint yet",
}


def tell_of_sweep(job: str, report: SweepReport, queries: Queries) -> None:
    """Say what a sweep, or a part of one, has come to; nothing where there was nothing to do.

    Args:
        job: What it was.
        report: What came of it.
        queries: Says what was evicted.
    """
    tally = report.tally
    if report.sweep_id is not None:
        _tell_of_evicted(job, queries.evictions(None, None, _MOST, sweep_id=report.sweep_id))
        counts = {
            "decided": tally.decided,
            "evicted": tally.evicted,
            "purged": tally.purged,
            "freed_bytes": tally.freed_bytes,
            "failed": tally.failed,
            "cancelled": tally.cancelled,
            "missing": len(tally.missing),
        }
        said = ", ".join(f"{name} {number}" for name, number in counts.items())
        _tell(logging.INFO, job, f"{job} {report.sweep_id}: {said}", {"sweep_id": report.sweep_id, **counts})
    if report.is_capped:
        message = f"{job}: that is as much as one sweep evicts; the next one goes on"
        _tell(logging.WARNING, job, message, {"kind": "capped"})
    for uri in tally.missing:
        message = f"missing: there is nothing at {uri}, where a trial has saved a checkpoint"
        _tell(logging.WARNING, job, message, {"kind": "missing", "uri": uri})
    for reason in report.left_alone[:_LEFT_ALONE_TOLD]:
        _tell(logging.WARNING, job, f"left alone: {reason}", {"kind": "left_alone", "reason": reason})
    more = len(report.left_alone) - _LEFT_ALONE_TOLD
    if more > 0:
        message = f"left alone: {more} more; see clock_tolerance in the README"
        _tell(logging.WARNING, job, message, {"kind": "left_alone", "more": more})
    for reason in report.not_taken:
        _tell(logging.WARNING, job, f"not taken: {reason}", {"kind": "not_taken", "reason": reason})
    if report.left_open:
        said = f"left open: {report.left_open} evictions that earlier sweeps did not end"
        _tell(logging.WARNING, job, said, {"kind": "left_open", "number": report.left_open})
    for error in tally.errors:
        _tell(logging.ERROR, job, f"{job}: {error}", {"kind": "failed", "error": error})
    _tell_of_untrusted(job, report.untrusted, "swept")
    for name, called, held_back in report.excesses:
        held = ", ".join(f"{number} {reason}" for reason, number in held_back.items())
        about = "experiment_id" if name in report.exceeded else "scope"
        fields = {"kind": "exceeded", about: name, "held_back": dict(held_back)}
        _tell(
            logging.WARNING,
            job,
            f"{called} is still above its limit: it holds {held or 'nothing that could go'}",
            fields,
        )


def tell_of_finding(finding: Finding) -> None:
    """Say where a store and the log differ."""
    said = f"reconcile: {finding.uri} {_WORDS[finding.kind]}"
    if finding.kind == "resized":
        said += f": {finding.found_bytes} bytes, and the log says {finding.logged_bytes}"
    if finding.note is not None:
        said += f": {finding.note}"
    fields = {name: value for name, value in asdict(finding).items() if value is not None}
    _tell(_LEVELS[finding.kind], "reconcile", said, fields)


def tell_of_reconcile(report: ReconcileReport, numbers: Mapping[str, int]) -> None:
    """Say what comparing the stores with the log has come to; nothing where they say the same."""
    if numbers:
        said = ", ".join(f"{number} {kind}" for kind, number in sorted(numbers.items()))
        _tell(logging.INFO, "reconcile", f"reconcile: {said}", dict(numbers))
    for error in report.errors:
        _tell(logging.ERROR, "reconcile", f"reconcile: {error}", {"kind": "failed", "error": error})
    _tell_of_untrusted("reconcile", report.untrusted, "compared")


def _tell_of_evicted(job: str, decisions: Answer) -> None:
    for row in reversed(decisions):
        if row["outcome"] in _EVICTED:
            fields = {name: row[name] for name in ("experiment_id", "trial_id", "uri", "size_bytes", "reason")}
            fields |= {"kind": "evicted", "decision_id": str(row["decision_id"])}
            message = f"evicted: {row['uri']} of trial {row['trial_id']} of experiment {row['experiment_id']}"
            _tell(logging.INFO, job, message, fields)


def _tell_of_untrusted(job: str, untrusted: Mapping[str, str], work: str) -> None:
    for experiment_id, reason in untrusted.items():
        fields = {"kind": "untrusted", "experiment_id": experiment_id, "error": reason}
        _tell(logging.ERROR, job, f"experiment {experiment_id} is not {work}: {reason}", fields)


def _tell(level: int, job: str, message: str, fields: Mapping[str, Any]) -> None:
    logger.log(level, "%s", message, extra={"job": job, **fields})

"""An audit by several processes, when one of them is killed."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from quota.cli import audit_workers
from quota.cli.audit_workers import audit_with, jobs_for
from quota.errors import QuotaError
from quota.eventlog.database import Database
from quota.services.migrating import upgrade
from quota.services.stream_audit import AuditOrder, StreamAudit
from sweeps import sweeps_over

if TYPE_CHECKING:
    from pathlib import Path

    from quota.services.heads import Head


def killed(_head: Head, _order: AuditOrder) -> StreamAudit:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_killed_process_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/quota.db"
    with closing(Database(url)) as database:
        upgrade(database)
    with sweeps_over(url) as sweeps:
        sweeps.prepare(2, high=2, low=2)
        heads = sweeps.services.auditor.heads()
    found = list(audit_with(2, url, "auditor", heads, AuditOrder(), lambda _: None))
    assert {head.experiment_id: audit.fault for head, audit in found} == {"_deployment": None, "x": None}
    monkeypatch.setattr(audit_workers, "_audited", killed)
    with pytest.raises(QuotaError, match=r"killed.*--jobs 1"):
        list(audit_with(2, url, "auditor", heads, AuditOrder(), lambda _: None))


def test_processes_are_started_where_they_pay_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert jobs_for(events=1_000, streams=9, wanted=None) == 1
    assert jobs_for(events=45_000, streams=9, wanted=None) == 2
    assert jobs_for(events=10**9, streams=9, wanted=None) == 4
    assert jobs_for(events=10**9, streams=2, wanted=None) == 2
    assert jobs_for(events=10, streams=3, wanted=8) == 3
    assert jobs_for(events=0, streams=0, wanted=8) == 1

"""Killed at any point, or done twice at once: all events or none, an archive or nothing under its name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from archives import DirectoryShelf, rows_of, silent
from quota.errors import ArchiveRefused
from quota.services.archive_places import place_at, uri_below
from quota.services.archive_reading import ArchiveReader
from quota.services.stream_audit import AuditOrder, audit_stream

if TYPE_CHECKING:
    from archives import Shelf
    from sweeps import Sweeps

TESTS = Path(__file__).parents[2]
WRITING, PLACES = "quota.services.archive_writing", "quota.services.archive_places"
BOOK, REMOVING = "quota.services.archive_book:ArchiveBook.record", "quota.services.removing_events:remove_events"
RESTORING = "quota.services.restoring_events"
CREATING = {
    "before the first file": (f"before {WRITING}:_written 1", False),
    "after the events": (f"after {WRITING}:_written 1", False),
    "before the manifest": (f"after {WRITING}:_written 4", False),
    "before it is read back": ("before quota.services.archiving:ArchiveReader 1", True),
    "before it is recorded": (f"before {BOOK} 1", True),
    "before that is committed": (f"after {BOOK} 1", True),
}
REMOVING_AT = {
    "before": f"before {REMOVING} 1",
    "marked": "after quota.eventlog.archived:_note 1",
    "removed": f"before {BOOK} 1",
    "recorded": f"after {BOOK} 1",
}
RESTORING_AT = {
    "some": f"after {RESTORING}:put_back 1",
    "all": f"after {RESTORING}:note_whole 1",
    "recorded": f"after {BOOK} 1",
}


def started(sweeps: Sweeps, step: str, subject: str, *point: str) -> subprocess.Popen[str]:
    url = sweeps.services.database.url
    if not sweeps.services.database.is_sqlite:
        url = sweeps.services.database._writer.url.render_as_string(hide_password=False)  # noqa: SLF001
    command = [sys.executable, str(TESTS / "archive_worker.py"), url, step, subject, *point]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(TESTS)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def killed(sweeps: Sweeps, step: str, subject: str, point: str) -> None:
    with started(sweeps, step, subject, point) as process:
        process.communicate("go\n")
    assert process.returncode == -signal.SIGKILL, point


def at_once(sweeps: Sweeps, *steps: tuple[str, str]) -> list[str]:
    """Let processes begin at the same moment, and return what they said, sorted."""
    with ExitStack() as stack:
        processes = [stack.enter_context(started(sweeps, step, subject)) for step, subject in steps]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return sorted(process.communicate()[0].strip() for process in processes)


def uri_of(sweeps: Sweeps, shelf: Shelf) -> str:
    return uri_below(shelf.uri, f"x-{len(sweeps.events())}")


def faults(sweeps: Sweeps) -> list[object]:
    services = sweeps.services
    order = AuditOrder(removed=services.auditor.removed(), with_archives=True)
    audits = [
        audit_stream(services.auditor, services.recomputer, head, order, silent) for head in services.auditor.heads()
    ]
    return [audit.fault for audit in audits if audit.fault is not None]


@pytest.mark.parametrize(("point", "is_there"), CREATING.values(), ids=CREATING.keys())
def test_an_archive_is_there_whole_or_not_at_all(
    on_sqlite: Sweeps, shelf: Shelf, point: str, *, is_there: bool
) -> None:
    uri, rows = uri_of(on_sqlite, shelf), rows_of(on_sqlite.services)
    killed(on_sqlite, "create", shelf.uri, point)
    if is_there:
        ArchiveReader(place_at(uri)).verify(silent)
    else:
        assert not place_at(uri).is_there()
        with pytest.raises(ArchiveRefused, match=r"file manifest\.json: there is none"):
            ArchiveReader(place_at(uri))
        if isinstance(shelf, DirectoryShelf):
            assert all(name.startswith(".x-") for name in shelf.names())
    assert [one for one in on_sqlite.events("_deployment") if one.payload.TYPE == "experiment_archived"] == []
    assert (rows_of(on_sqlite.services), faults(on_sqlite)) == (rows, [])
    assert on_sqlite.services.archiver.create("x", shelf.uri, silent).uri == uri
    ArchiveReader(place_at(uri)).verify(silent)


@pytest.mark.parametrize("point", REMOVING_AT.values(), ids=REMOVING_AT.keys())
def test_all_events_are_in_the_log_or_none(sweeps: Sweeps, directory: DirectoryShelf, point: str) -> None:
    rows = rows_of(sweeps.services)
    sweeps.services.archiver.create("x", directory.uri, silent)
    killed(sweeps, "remove", "x", point)
    assert (rows_of(sweeps.services), faults(sweeps), sweeps.services.auditor.removed()) == (rows, [], {})
    sweeps.services.event_remover.remove("x", silent)
    assert (rows_of(sweeps.services), faults(sweeps)) == ([], [])


@pytest.mark.parametrize("point", RESTORING_AT.values(), ids=RESTORING_AT.keys())
def test_all_events_are_back_or_none(sweeps: Sweeps, directory: DirectoryShelf, point: str) -> None:
    rows = rows_of(sweeps.services)
    archive = sweeps.services.archiver.create("x", directory.uri, silent)
    sweeps.services.event_remover.remove("x", silent)
    killed(sweeps, "restore", archive.uri, point)
    assert (rows_of(sweeps.services), faults(sweeps)) == ([], [])
    sweeps.services.event_restorer.restore(archive.uri, silent)
    assert (rows_of(sweeps.services), faults(sweeps)) == (rows, [])


def test_two_that_write_one_archive_do_no_harm(sweeps: Sweeps, shelf: Shelf) -> None:
    uri = uri_of(sweeps, shelf)
    said = at_once(sweeps, ("create", shelf.uri), ("create", shelf.uri))
    assert said == ["done", "done"]
    ArchiveReader(place_at(uri)).verify(silent)
    told = [one for one in sweeps.events("_deployment") if one.payload.TYPE == "experiment_archived"]
    assert len(told) == 1
    sweeps.services.event_remover.remove("x", silent)
    assert faults(sweeps) == []


def test_two_that_remove_or_restore_at_once(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    rows = rows_of(sweeps.services)
    archive = sweeps.services.archiver.create("x", directory.uri, silent)
    assert at_once(sweeps, ("remove", "x"), ("remove", "x")) == ["StreamArchived", "done"]
    assert (rows_of(sweeps.services), faults(sweeps)) == ([], [])
    assert at_once(sweeps, ("restore", archive.uri), ("restore", archive.uri)) == ["StateRefused", "done"]
    assert (rows_of(sweeps.services), faults(sweeps)) == (rows, [])


def test_one_that_records_while_events_are_removed(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    rows = rows_of(sweeps.services)
    sweeps.services.archiver.create("x", directory.uri, silent)
    said = at_once(sweeps, ("remove", "x"), ("record", "x"))
    assert said in (["StateRefused", "done"], ["ArchiveRefused", "done"], ["StreamArchived", "done"])
    assert (len(rows_of(sweeps.services)), faults(sweeps)) == (0 if "StreamArchived" in said else len(rows) + 1, [])

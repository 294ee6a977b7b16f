"""What is not certain is neither removed from the log nor put into it, and the message says what is wrong where."""

from __future__ import annotations

import io
import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from archives import finish_with_nothing_left, rows_of, silent
from quota.domain.events import (
    CheckpointFound,
    CheckpointMissing,
    ExperimentFinished,
    ExperimentRegistered,
    TrialReported,
    TrialStarted,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import (
    ArchiveRefused,
    BadInput,
    LogCorrupt,
    NotFound,
    ProjectionDiverged,
    SettingsRefused,
    StateRefused,
)
from quota.eventlog.tables import events
from quota.services.archive_manifest import archive_name
from quota.services.heads import Head
from quota.services.stream_audit import AuditOrder, audit_stream
from support import create_schema, tamper
from sweeps import Sweeps, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from archives import DirectoryShelf, Shelf
    from quota.bootstrap import Services
    from quota.eventlog.verifying import Fault

ANOTHER = "019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10"
DELETE = "DELETE FROM events WHERE experiment_id = 'x'"


def reason_of(services: Services) -> str:
    with pytest.raises(StateRefused) as refused:
        services.event_remover.remove("x", silent)
    return refused.value.reason


def fault_of(services: Services, stream: str = "x", *, with_archives: bool = False) -> Fault | None:
    order = AuditOrder(removed=services.auditor.removed(), with_archives=with_archives)
    removed = order.removed.get(stream)
    head = next((one for one in services.auditor.heads() if one.experiment_id == stream), None)
    head = head or (None if removed is None else removed.head)
    assert head is not None
    return audit_stream(services.auditor, services.recomputer, head, order, silent).fault


def test_events_of_what_may_still_change_stay(database_url: str, directory: DirectoryShelf) -> None:
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        services = sweeps.services
        with pytest.raises(NotFound, match="experiment x: there is none"):
            services.archiver.create("x", directory.uri, silent)
        sweeps.prepare(2, high=3, low=2)
        services.archiver.create("x", directory.uri, silent)
        assert "there is none that is finished: ckpt-quota experiment finish x" in reason_of(services)
        rows = rows_of(services)
        finish_rest(sweeps)
        advice = "write one first: ckpt-quota archive create x --to DIRECTORY"
        assert reason_of(services) == f"no archive has its events up to the last one, 10; {advice}"
        services.archiver.create("x", directory.uri, silent)
        # A checkpoint that was lost has turned up.
        appear(sweeps, "1")
        assert f"it still has checkpoint {uri_of('1')}, stored or in the trash" in reason_of(services)
        assert rows_of(services)[: len(rows)] == rows


def finish_rest(sweeps: Sweeps) -> None:
    for trial_id in ("1", "2"):
        sweeps.send(CheckpointMissing(trial_id=trial_id, uri=uri_of(trial_id)))
    sweeps.send(ExperimentFinished())


def appear(sweeps: Sweeps, trial_id: str) -> None:
    found = CheckpointFound(trial_id=trial_id, uri=uri_of(trial_id), size_bytes=10)
    with sweeps.services.projector.locked(["x"]) as locked:
        sweeps.services.recorder.appender.add(locked["x"], found)


def test_what_is_in_the_trash_keeps_the_events(database_url: str, directory: DirectoryShelf) -> None:
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(2, high=1, low=1)
        sweeps.sweep()
        sweeps.send(CheckpointMissing(trial_id="1", uri=uri_of("1")), ExperimentFinished())
        sweeps.services.archiver.create("x", directory.uri, silent)
        assert f"it still has checkpoint {uri_of('2')}, stored or in the trash" in reason_of(sweeps.services)


def test_what_was_recorded_since_keeps_the_events(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    sweeps.send(TrialReported(trial_id="1", resource=3, metric=1.0))
    assert "no archive has its events up to the last one" in reason_of(services)
    services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)


def test_rows_that_are_not_the_events_keep_them(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    with services.database.write() as connection:
        connection.execute(text("UPDATE trials SET resumes = 5 WHERE trial_id = '1'"))
    with pytest.raises(ProjectionDiverged, match="nothing was removed: `ckpt-quota rebuild --verify`"):
        services.event_remover.remove("x", silent)
    assert rows_of(services)


@pytest.mark.parametrize("stream", ["x", DEPLOYMENT_STREAM])
def test_a_chain_that_does_not_hold_is_neither_archived_nor_removed(
    sweeps: Sweeps, directory: DirectoryShelf, stream: str
) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    tamper(services, [f"UPDATE events SET actor = 'nobody' WHERE experiment_id = '{stream}' AND position = 2"])
    if stream == "x":
        with pytest.raises(LogCorrupt, match="event 2 of x: the event was changed"):
            services.archiver.create("x", directory.uri, silent)
    else:
        with pytest.raises(LogCorrupt, match="event 2 of _deployment: the event was changed"):
            services.event_remover.remove("x", silent)
    assert rows_of(services)


def test_no_archive_lies_in_a_store_or_nowhere(sweeps: Sweeps) -> None:
    for place, message in (
        ("memory://store/sub/", "it lies in the store memory://store/"),
        ("gs://bucket/x/", "archives lie in a directory"),
        ("nowhere", "a location is an absolute URI"),
        ("s3://bucket/x", "a prefix ends in `/`"),
    ):
        with pytest.raises(SettingsRefused, match=message):
            sweeps.services.archiver.create("x", place, silent)
    for stream in ("_deployment", "_orphans"):
        with pytest.raises(BadInput, match="this stream never ends"):
            sweeps.services.archiver.create(stream, "file:///x", silent)


def rewritten(content: bytes, change: Callable[[list[dict[str, Any]]], object]) -> bytes:
    """Change rows of a Parquet file, as somebody would who can write such files."""
    table = pq.read_table(io.BytesIO(content))
    rows = table.to_pylist()
    change(rows)
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), stream)
    return stream.getvalue()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def with_digests(shelf: Shelf, name: str, **changed: bytes) -> None:
    """Write files, and a manifest that has their digests."""
    manifest = json.loads(shelf.read(f"{name}/manifest.json"))
    for file in manifest["files"]:
        content = changed.get(file["name"].removesuffix(".parquet"))
        if content is not None:
            shelf.write(f"{name}/{file['name']}", content)
            file |= {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    shelf.write(f"{name}/manifest.json", json.dumps(manifest, indent=2).encode() + b"\n")


@pytest.mark.parametrize("removed", [False, True], ids=["before removal", "after removal"])
@pytest.mark.parametrize(
    "file", ["events.parquet", "eviction_history.parquet", "eviction_outcomes.parquet", "trial_history.parquet"]
)
def test_a_changed_file_is_named(sweeps: Sweeps, shelf: Shelf, file: str, *, removed: bool) -> None:
    services = sweeps.services
    archive = services.archiver.create("x", shelf.uri, silent)
    if removed:
        services.event_remover.remove("x", silent)
    name = archive_name("x", archive.position)
    good = shelf.read(f"{name}/{file}")
    for bad, message in (
        (flipped(good), f"file {file}: it is not what manifest.json says: {len(good)} bytes"),
        (good[:-1], f"file {file}: it is not what manifest.json says: {len(good) - 1} bytes"),
        (None, f"file {file}: there is none"),
    ):
        shelf.write(f"{name}/{file}", bad)
        ask = services.event_restorer.restore if removed else services.event_remover.remove
        with pytest.raises(ArchiveRefused) as refused:
            ask(archive.uri if removed else "x", silent)
        assert str(refused.value).startswith(f"archive {archive.uri}: {message}")
        if removed:
            fault = fault_of(services, with_archives=True)
            assert fault is not None
            assert fault.reason.startswith(f"archive {archive.uri}: {message}")
    assert (rows_of(services) == []) is removed


CHANGES: dict[str, tuple[Callable[[list[dict[str, Any]]], object], str]] = {
    "changed": (lambda rows: rows[4].update(actor="nobody"), "event 5 was changed, or its hash was"),
    "dropped": (lambda rows: rows.pop(4), "where event 5 should be, there is event 6 of x"),
    "cut off": (lambda rows: rows.pop(), "events, and manifest.json says"),
    "of another": (lambda rows: rows[4].update(experiment_id="y"), "where event 5 should be, there is event 5 of y"),
    "no data": (lambda rows: rows[4].update(data=None), "event 5 was changed, or its hash was"),
    "no time": (lambda rows: rows[4].update(occurred_at=None), "event 5 cannot be read"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_events_that_were_written_anew_are_found_by_their_chain(
    sweeps: Sweeps, directory: DirectoryShelf, change: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    services = sweeps.services
    archive = services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    name = archive_name("x", archive.position)
    with_digests(directory, name, events=rewritten(directory.read(f"{name}/events.parquet"), change))
    with pytest.raises(ArchiveRefused) as refused:
        services.event_restorer.restore(archive.uri, silent)
    assert f"file events.parquet: {message}" in str(refused.value) or message in str(refused.value)
    assert rows_of(services) == []
    fault = fault_of(services, with_archives=True)
    assert fault is not None
    assert "file manifest.json: its SHA-256 is " in fault.reason


def test_a_manifest_that_was_written_anew_is_found(sweeps: Sweeps, shelf: Shelf) -> None:
    services = sweeps.services
    archive = services.archiver.create("x", shelf.uri, silent)
    name = archive_name("x", archive.position)
    good = shelf.read(f"{name}/manifest.json")
    for bad, message in (
        (good.replace(b'"format": 1', b'"format": 2'), "it is of format 2, and this software reads 1; upgrade it"),
        (b"{}", "it is no manifest"),
        (b"\xff", "it is no manifest"),
        (good + b" ", "it is not as this software writes it"),
        (good.replace(b'"software_version": "', b'"software_version": "9'), "its SHA-256 is "),
        (None, "there is none"),
    ):
        shelf.write(f"{name}/manifest.json", bad)
        with pytest.raises(ArchiveRefused) as refused:
            services.event_remover.remove("x", silent)
        assert f"archive {archive.uri}: file manifest.json: {message}" in str(refused.value)
    assert rows_of(services)


def test_another_stream_of_the_same_name_is_not_restored_over_it(
    sweeps: Sweeps, directory: DirectoryShelf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    url = f"sqlite:///{tmp_path_factory.mktemp('other')}/quota.db"
    create_schema(url)
    with sweeps_over(url) as other:
        finish_with_nothing_left(other)
        foreign = other.services.archiver.create("x", f"{directory.uri}/others", silent)
        with pytest.raises(StateRefused, match="its events are in the log, so there is nothing to restore"):
            other.services.event_restorer.restore(foreign.uri, silent)
    with pytest.raises(ArchiveRefused, match=r"file manifest.json: its chain ends at \d+ with"):
        services.event_restorer.restore(foreign.uri, silent)
    assert rows_of(services) == []


def test_a_checkpoints_place_that_another_trial_has_is_not_given_away(
    sweeps: Sweeps, directory: DirectoryShelf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = sweeps.services.archiver.create("x", directory.uri, silent)
    url = f"sqlite:///{tmp_path_factory.mktemp('other')}/quota.db"
    create_schema(url)
    with sweeps_over(url) as other:
        other.experiment_id = "mine"
        other.send(
            ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9),
            TrialStarted(trial_id="1"),
        )
        other.save("1")
        with pytest.raises(StateRefused, match="overlaps memory://store/1/ of experiment mine"):
            other.services.event_restorer.restore(archive.uri, silent)
        assert rows_of(other.services) == []
        assert [one.experiment_id for one in other.services.auditor.heads()] == ["mine"]


def test_only_events_of_a_stream_that_is_archived_can_be_deleted(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    rows, other = rows_of(services), rows_of(services, DEPLOYMENT_STREAM)

    def attempt(*statements: str) -> None:
        with services.database.write() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def refused(*statements: str) -> None:
        with pytest.raises(DBAPIError, match="never changed"):
            attempt(*statements)

    flag = "UPDATE streams SET archive_uri = 'file:///x' WHERE experiment_id = 'x'"
    refused(DELETE)
    refused(flag, "DELETE FROM events")
    refused(flag, f"DELETE FROM events WHERE experiment_id = '{DEPLOYMENT_STREAM}'")
    refused(flag, "UPDATE events SET actor = 'nobody' WHERE experiment_id = 'x'")
    if not services.database.is_sqlite:
        shadow = "CREATE TEMP TABLE streams AS SELECT 'x' AS experiment_id, 'file:///x' AS archive_uri"
        refused(shadow, DELETE)
    assert (rows_of(services), rows_of(services, DEPLOYMENT_STREAM)[: len(other)]) == (rows, other)


def test_missing_events_without_a_word_of_the_deployment_are_a_fault(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    assert fault_of(services) is None
    with services.database.write() as connection:
        connection.execute(text("UPDATE streams SET archive_uri = 'file:///x' WHERE experiment_id = 'x'"))
    fault = fault_of(services)
    assert fault is not None
    assert "its head says that its events lie in file:///x, and _deployment says no such thing" in fault.reason
    with services.database.write() as connection:
        connection.execute(text(DELETE))
        connection.execute(text("UPDATE streams SET archive_uri = NULL WHERE experiment_id = 'x'"))
    fault = fault_of(services)
    assert fault is not None
    assert fault.reason.startswith("the event is missing; the head says")


HEADS = {
    "hash": (
        "UPDATE streams SET hash = (SELECT hash FROM streams WHERE experiment_id = '_deployment')",
        "its head is not",
    ),
    "position": ("UPDATE streams SET position = 3", "its head is not"),
    "place": ("UPDATE streams SET archive_uri = 'file:///y'", "its head says that its events lie in file:///y"),
    "no place": ("UPDATE streams SET archive_uri = NULL", "its head says that its events lie in None"),
    "gone": ("DELETE FROM streams", "its head is not"),
}


@pytest.mark.parametrize(("statement", "message"), HEADS.values(), ids=HEADS.keys())
def test_a_head_that_is_not_what_the_deployment_says_is_a_fault(
    sweeps: Sweeps, directory: DirectoryShelf, statement: str, message: str
) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    assert fault_of(services) is None
    with services.database.write() as connection:
        connection.execute(text(f"{statement} WHERE experiment_id = 'x'"))
    fault = fault_of(services)
    assert fault is not None
    assert fault.reason.startswith(message)


def test_an_event_that_is_back_without_a_word_of_the_deployment_is_a_fault(
    sweeps: Sweeps, directory: DirectoryShelf
) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    with services.database.write() as connection:
        (row,) = connection.execute(select(events).where(events.c.position == 1)).mappings()
        values = {name: value for name, value in row.items() if name != "global_position"}
        connection.execute(insert(events).values(values | {"experiment_id": "x", "position": 4, "event_id": ANOTHER}))
    fault = fault_of(services)
    assert fault is not None
    assert (fault.position, fault.reason[:26]) == (4, "the event is in the log, t")


def test_a_head_that_was_kept_long_before_is_compared_with_the_archive(
    sweeps: Sweeps, directory: DirectoryShelf
) -> None:
    services = sweeps.services
    with services.exporter.exported("events", ["x"]) as found:
        names = [column.name for column in found.columns]
        row = dict(zip(names, list(found.rows)[4], strict=True))
    services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    for digest, reason in ((row["hash"].hex(), None), ("0" * 64, "the hash of event 5 is not the one that was kept")):
        kept = Head("x", 5, digest)
        order = AuditOrder(removed=services.auditor.removed(), with_archives=True)
        fault = audit_stream(services.auditor, services.recomputer, kept, order, silent).fault
        assert (reason is None) is (fault is None)
        assert fault is None or reason is None or reason in fault.reason


def test_an_event_that_another_stream_has_by_now_keeps_all_from_coming_back(
    sweeps: Sweeps, directory: DirectoryShelf
) -> None:
    services = sweeps.services
    event_id = sweeps.events()[3].event_id
    archive = services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    sweeps.experiment_id = "y"
    registered = ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9)
    services.recorder.append([structs.replace(sweeps.envelope(registered), event_id=event_id)])
    with pytest.raises(StateRefused, match="the log has some of its events under another name"):
        services.event_restorer.restore(archive.uri, silent)
    assert rows_of(services) == []
    assert fault_of(services) is None

"""Events of a finished experiment go to Parquet, out of the log, and back: the same bytes, the same proofs."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from archives import AT_ONCE, rows_of, silent
from integration.test_reconcile import Seen
from quota.bootstrap import assemble
from quota.client import ExperimentHandle
from quota.domain.events import ExperimentRegistered, TrialReported, TrialStarted
from quota.errors import ArchiveRefused, StreamArchived
from quota.projections.view_tables import VIEWS
from quota.services import archive_places
from quota.services.findings import ReconcileOrder
from quota.services.stream_audit import AuditOrder, audit_stream
from sweeps import uri_of

if TYPE_CHECKING:
    from pathlib import Path

    from archives import DirectoryShelf, Shelf
    from quota.bootstrap import Services
    from quota.services.stream_audit import StreamAudit
    from sweeps import Sweeps


def audited(services: Services, *, with_archives: bool = False) -> dict[str, StreamAudit]:
    order = AuditOrder(removed=services.auditor.removed(), with_archives=with_archives)
    return {
        head.experiment_id: audit_stream(services.auditor, services.recomputer, head, order, silent)
        for head in services.auditor.heads()
    }


def views(services: Services) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    for name in VIEWS:
        with services.exporter.exported(name, []) as exported:
            found[name] = [tuple(row) for row in exported.rows]
    return found


def test_an_archive_holds_what_the_log_holds_and_says_so(sweeps: Sweeps, shelf: Shelf) -> None:
    services = sweeps.services
    (head,) = (one for one in services.auditor.heads() if one.experiment_id == "x")
    archive = services.archiver.create("x", shelf.uri, silent)
    name = f"x-{head.position}"
    files = ("events", "eviction_history", "eviction_outcomes", "trial_history")
    assert shelf.names() == [f"{name}/{file}.parquet" for file in files[:1]] + sorted(
        [*(f"{name}/{file}.parquet" for file in files[1:]), f"{name}/manifest.json"]
    )
    text_ = shelf.read(f"{name}/manifest.json")
    manifest = json.loads(text_)
    assert manifest["head"] == {"position": head.position, "hash": head.hash}
    assert (manifest["format"], manifest["experiment_id"]) == (1, "x")
    for file in manifest["files"]:
        content = shelf.read(f"{name}/{file['name']}")
        assert (file["bytes"], file["sha256"]) == (len(content), sha256(content).hexdigest())
    recorded = sweeps.events("_deployment")[-1].payload
    assert recorded.TYPE == "experiment_archived"
    assert (getattr(recorded, "uri", ""), getattr(recorded, "manifest_sha256", "")) == (
        archive.uri,
        sha256(text_).hexdigest(),
    )
    assert archive.uri.rstrip("/") == f"{shelf.uri.rstrip('/')}/{name}"


def test_what_was_archived_before_is_read_back_and_recorded_once(sweeps: Sweeps, shelf: Shelf) -> None:
    archiver = sweeps.services.archiver
    first = archiver.create("x", shelf.uri, silent)
    before = {name: shelf.read(name) for name in shelf.names()}
    position = len(sweeps.events("_deployment"))
    assert archiver.create("x", shelf.uri, silent) == first
    assert len(sweeps.events("_deployment")) == position
    assert {name: shelf.read(name) for name in shelf.names()} == before


def test_what_was_not_written_as_it_was_meant_is_not_recorded(
    sweeps: Sweeps, directory: DirectoryShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = archive_places.sync_directory

    def spoiling(path: Path) -> None:
        for file in path.glob("trial_history.parquet"):
            file.write_bytes(file.read_bytes()[:-1])
        sync(path)

    monkeypatch.setattr(archive_places, "sync_directory", spoiling)
    with pytest.raises(ArchiveRefused, match=r"file trial_history\.parquet: it is not what manifest\.json says"):
        sweeps.services.archiver.create("x", directory.uri, silent)
    assert "experiment_archived" not in {one.payload.TYPE for one in sweeps.events("_deployment")}


def test_a_copy_of_an_archive_is_as_good(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    services = sweeps.services
    rows = rows_of(services)
    archive = services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    shutil.copytree(directory.path, directory.path.with_name("copies"))
    copy = services.event_restorer.restore(archive.uri.replace("/archives/", "/copies/"), silent)
    assert rows_of(services) == rows
    assert {one.uri: one.removed_at for one in services.archive_book.known()} == {archive.uri: None, copy.uri: None}
    assert services.auditor.removed() == {}
    assert list(services.rebuilder.verify("_deployment", silent)) == []


def test_events_leave_the_log_and_come_back_as_they_were(sweeps: Sweeps, shelf: Shelf) -> None:
    services = sweeps.services
    rows, before, audit = rows_of(services), views(services), audited(services)
    assert audit["x"].decisions == 2
    archive = services.archiver.create("x", shelf.uri, silent)
    removed = services.event_remover.remove("x", silent)
    assert (removed.uri, removed.removed_at) == (archive.uri, sweeps.clock.moment)
    assert rows_of(services) == []
    after = views(services)
    assert after.pop("trial_history") == []
    assert after == {name: found for name, found in before.items() if name != "trial_history"}

    told = audited(services)
    assert (told["x"].fault, told["x"].decisions, told["x"].removed) == (None, 0, services.auditor.removed()["x"])
    told = audited(services, with_archives=True)
    assert (told["x"].fault, told["x"].decisions, told["x"].mismatched) == (None, 2, [])

    services.event_restorer.restore(archive.uri, silent)
    assert rows_of(services) == rows
    assert views(services) == before
    assert audited(services)["x"] == audit["x"]
    for stream in ("x", "_deployment"):
        assert list(services.rebuilder.verify(stream, silent)) == []
        services.rebuilder.rebuild(stream, silent)
    assert views(services) == before
    ExperimentHandle(services, "tuner", "x").record(TrialReported(trial_id="1", resource=3, metric=0.5))


def test_what_needs_the_events_names_the_archive(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    services = sweeps.services
    with services.database.read() as connection:
        decision_id = connection.execute(text("SELECT CAST(decision_id AS TEXT) FROM decisions")).scalars().first()
    archive = services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    handle = ExperimentHandle(services, "tuner", "x")
    asked = (
        lambda: handle.trial_reported("1", resource=9, metric=0.5),
        lambda: sweeps.resume("1"),
        lambda: handle.promised_checkpoint("1"),
        lambda: services.explainer.explain(str(decision_id)),
        lambda: services.rebuilder.rebuild("x", silent),
        lambda: list(services.rebuilder.verify("x", silent)),
        lambda: services.archiver.create("x", directory.uri, silent),
        lambda: services.event_remover.remove("x", silent),
    )
    before = views(services)
    for ask in asked:
        with pytest.raises(StreamArchived) as refused:
            ask()
        message = f"experiment x: its events lie in the archive {archive.uri}; bring them back with: "
        assert str(refused.value) == f"{message}ckpt-quota archive restore x"
    assert views(services) == before


def test_other_experiments_go_on_beside_it(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    sweeps.experiment_id = "y"
    sweeps.send(
        ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9),
        *(TrialStarted(trial_id=trial_id) for trial_id in "5678"),
    )
    for trial_id in "5678":
        sweeps.pause(trial_id, metric=float(trial_id))
    sweeps.limit("deployment", 1, 1)
    # One that remembers the experiment as it was, and one that has never seen it.
    assert services.projector.is_at_hand("x")
    stranger = assemble(services.database, "tester", sweeps.clock, lambda _: sweeps.store)
    for sweeper in (services.sweeper, stranger.sweeper):
        report = sweeper.sweep(services.queries.experiment_ids(), AT_ONCE)
        assert (report.untrusted, report.exceeded, report.exceeded_scopes) == ({}, [], [])
    assert sweeps.state().usage.stored_checkpoints == 1
    assert services.queries.catch_up_as_far_as_possible() == {}


def test_what_has_turned_up_again_is_shown_and_not_recorded(sweeps: Sweeps, directory: DirectoryShelf) -> None:
    services = sweeps.services
    services.archiver.create("x", directory.uri, silent)
    services.event_remover.remove("x", silent)
    seen = Seen()
    order = ReconcileOrder(timedelta(days=1), timedelta(minutes=1), record=True)
    report = services.reconciler.reconcile([], order, seen)
    assert report.untrusted == {}
    assert seen.brief == [("turned_up", uri_of(trial_id), False) for trial_id in ("1", "2")]
    assert all("its events lie in the archive" in (one.note or "") for one in seen.findings)

"""Recorded real runs: what was decided recomputes from the archive, and from the log once it is restored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from archives import rows_of, silent
from golden.replay import EXPERIMENT, Replay, read_trace
from quota.client import ExperimentHandle
from quota.domain.events import CheckpointMissing
from quota.services.stream_audit import AuditOrder, audit_stream
from quota.testing.memory_store import MemoryStore
from recomputing import not_recomputed, whole_stream
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from archives import DirectoryShelf

GOLDEN = Path(__file__).parents[2] / "data" / "golden"


def test_all_decisions_recompute_from_the_archive_and_after_it_is_restored(
    database_url: str, directory: DirectoryShelf
) -> None:
    create_schema(database_url)
    header, *calls = read_trace(GOLDEN / "asha_max_ties.jsonl.gz")
    clock, store = HandClock(), MemoryStore("file:///golden")
    with services_over(database_url, clock, lambda _: store) as services:
        replay = Replay(services, clock, store, header)
        replay.run(calls)
        handle = ExperimentHandle(services, "tuner", EXPERIMENT)
        with services.database.read() as connection:
            state = services.projector.look(connection, EXPERIMENT)
        for one in state.checkpoints.values():
            if one.state == "stored":
                handle.record(CheckpointMissing(trial_id=one.trial_id, uri=one.uri), clock.moment)
        handle.finished(occurred_at=clock.moment)
        stream, rows = whole_stream(services, EXPERIMENT), rows_of(services, EXPERIMENT)

        archive = services.archiver.create(EXPERIMENT, directory.uri, silent)
        services.event_remover.remove(EXPERIMENT, silent)
        assert rows_of(services, EXPERIMENT) == []
        (head,) = (head for head in services.auditor.heads() if head.experiment_id == EXPERIMENT)
        order = AuditOrder(removed=services.auditor.removed(), with_archives=True)
        found = audit_stream(services.auditor, services.recomputer, head, order, silent)
        assert (found.fault, found.decisions, found.mismatched) == (None, replay.evictions_compared, [])

        services.event_restorer.restore(archive.uri, silent)
        assert rows_of(services, EXPERIMENT) == rows
        assert whole_stream(services, EXPERIMENT) == stream
        assert list(not_recomputed(whole_stream(services, EXPERIMENT))) == []
        found = audit_stream(services.auditor, services.recomputer, head, AuditOrder(), silent)
        assert (found.fault, found.decisions, found.mismatched) == (None, replay.evictions_compared, [])
        assert list(services.rebuilder.verify(EXPERIMENT, silent)) == []
    assert replay.evictions_compared > 0

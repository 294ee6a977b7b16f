"""Catching up, rebuilding from nothing and rebuilding during appends give the same rows, whatever happened."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, text, update

from folding import Story
from quota.domain.events import NewEvent
from quota.domain.experiment import ExperimentState
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.ranking import NOBODY
from quota.errors import ProjectionDiverged
from quota.projections import projector, snapshots
from quota.projections.rebuild import stray_streams
from quota.projections.tables import (
    EXPERIMENT_TABLES,
    checkpoints,
    estimators,
    flags,
    limits,
    rung_entries,
    rung_snapshots,
    trials,
    usage,
)
from quota.testing.memory_store import MemoryStore
from stories import EVICTION_KINDS, RECORDER_KINDS, Step, steps, tell
from streams import append, told
from support import HandClock, create_schema, services_over
from sweeps import sweeps_over

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from quota.bootstrap import Services
    from quota.eventlog.log import EventLog

histories = st.lists(steps((*RECORDER_KINDS, *EVICTION_KINDS), least=10, most=50), min_size=1, max_size=3)
actions = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(1, 9), st.sampled_from(["", "", "catch up", "catch up elsewhere", "rebuild"])
    ),
    max_size=25,
)


def rows(services: Services, experiment_id: str) -> dict[str, list[tuple[Any, ...]]]:
    with services.database.read() as connection:
        return {
            table.name: sorted(
                (tuple(row) for row in connection.execute(select(table).where(table.c.experiment_id == experiment_id))),
                key=repr,
            )
            for table in EXPERIMENT_TABLES
        }


def nothing(_: int) -> None:
    pass


def test_any_interleaving_in_any_batches(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever catches up writes snapshots too, each by what it knows of the last one.
    monkeypatch.setattr(snapshots, "_LEAST_CHANGED", 3)
    create_schema(database_url)
    with (
        services_over(database_url, HandClock(), MemoryStore) as here,
        services_over(database_url, HandClock(), MemoryStore) as elsewhere,
    ):

        @settings(
            max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
        )
        @given(histories, actions)
        def check(drawn: list[Any], what: list[tuple[int, int, str]]) -> None:
            streams = [told(history) for history in drawn]
            left = {experiment_id: list(new) for experiment_id, new in streams}
            for index, count, action in what:
                experiment_id, _ = streams[index % len(streams)]
                batch, left[experiment_id] = left[experiment_id][:count], left[experiment_id][count:]
                append(elsewhere if count % 2 else here, experiment_id, batch)
                if action == "rebuild":
                    elsewhere.rebuilder.rebuild(experiment_id, nothing)
                elif action:
                    (elsewhere if action == "catch up elsewhere" else here).queries.catch_up([experiment_id])
            for experiment_id, new in left.items():
                append(here, experiment_id, new)
                here.queries.catch_up([experiment_id])
                caught_up = rows(here, experiment_id)
                assert list(here.rebuilder.verify(experiment_id, nothing)) == []
                here.rebuilder.rebuild(experiment_id, nothing)
                assert rows(here, experiment_id) == caught_up
                elsewhere.queries.catch_up([experiment_id])
                assert rows(here, experiment_id) == caught_up

        check()


def test_rebuild_during_appends(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_LEAST_CHANGED", 3)
    create_schema(database_url)
    with (
        services_over(database_url, HandClock(), MemoryStore) as here,
        services_over(database_url, HandClock(), MemoryStore) as recorder,
    ):

        @settings(
            max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
        )
        @given(steps((*RECORDER_KINDS, *EVICTION_KINDS), least=10, most=60), st.integers(1, 40))
        def check(history: list[Any], before: int) -> None:
            experiment_id, new = told(history)
            append(recorder, experiment_id, new[:before])
            meanwhile = [new[before:]]

            def read(_: int) -> None:
                """Append once the rebuild has read the log without the lock, and before it takes the lock."""
                if meanwhile:
                    append(recorder, experiment_id, meanwhile.pop())

            assert here.rebuilder.rebuild(experiment_id, read) == len(new)
            rebuilt = rows(here, experiment_id)
            assert list(here.rebuilder.verify(experiment_id, nothing)) == []
            recorder.queries.catch_up([experiment_id])
            assert rows(here, experiment_id) == rebuilt

        check()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (trials, update(trials).values(status="failed")),
        (estimators, update(estimators).where(estimators.c.level == 0).values(ones=99)),
        (usage, delete(usage)),
        (rung_entries, delete(rung_entries)),
        (checkpoints, update(checkpoints).values(size_bytes=0)),
        (flags, insert(flags).values(experiment_id="one", position=1, reason="late_report")),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_verify_finds_a_row_that_was_changed(database_url: str, table: Any, change: Any) -> None:  # noqa: ANN401
    create_schema(database_url)
    with services_over(database_url, HandClock(), MemoryStore) as services:
        story = Story(state=ExperimentState("one"))
        tell(story, [Step("cycle", number % 2, number) for number in range(8)])
        new = [
            NewEvent(
                event_id=str(uuid.uuid4()),
                experiment_id="one",
                occurred_at=event.occurred_at,
                actor="tester",
                payload=event.payload,
            )
            for event in story.events
        ]
        append(services, "one", new)
        services.queries.catch_up(["one"])
        assert list(services.rebuilder.verify("one", nothing)) == []
        with services.database.write() as connection:
            connection.execute(change)
        assert {difference.table for difference in services.rebuilder.verify("one", nothing)} == {table.name}
        services.rebuilder.rebuild("one", nothing)
        assert list(services.rebuilder.verify("one", nothing)) == []


def test_verify_finds_a_snapshot_that_was_changed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_LEAST_CHANGED", 1)
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(4, high=9, low=9)
        services = sweeps.services
        services.queries.catch_up(["x"])
        assert list(services.rebuilder.verify("x", nothing)) == []
        with services.database.write() as connection:
            connection.execute(update(rung_snapshots).values(body=snapshots.encode(NOBODY)))
        [difference] = services.rebuilder.verify("x", nothing)
        assert (difference.table, difference.key) == (
            "rung_snapshots",
            {"experiment_id": "x", "level": 1, "rank": 1},
        )
        with services.database.write() as connection:
            connection.execute(update(rung_snapshots).values(body=b"?"))
        with pytest.raises(ProjectionDiverged, match=r"rows cannot be read.*ckpt-quota rebuild"):
            list(services.rebuilder.verify("x", nothing))
        services.rebuilder.rebuild("x", nothing)
        assert list(services.rebuilder.verify("x", nothing)) == []


@pytest.mark.parametrize("owner", [DEPLOYMENT_STREAM, "nobody"])
@pytest.mark.parametrize("table", ["trials", "rung_snapshots"])
def test_verify_finds_rows_of_no_experiment(
    database_url: str, monkeypatch: pytest.MonkeyPatch, owner: str, table: str
) -> None:
    monkeypatch.setattr(snapshots, "_LEAST_CHANGED", 1)
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(2, high=9, low=9)
        services = sweeps.services
        services.queries.catch_up(["x"])
        with services.database.write() as connection:
            assert stray_streams(connection, services.log) == []
            connection.execute(text(f"UPDATE {table} SET experiment_id = '{owner}'"))
            assert stray_streams(connection, services.log) == ([] if owner == DEPLOYMENT_STREAM else [owner])
        found = list(services.rebuilder.verify(owner, nothing))
        assert {(one.table, one.key["experiment_id"]) for one in found} == {(table, owner)}
        for stream in (owner, "x"):
            services.rebuilder.rebuild(stream, nothing)
            assert list(services.rebuilder.verify(stream, nothing)) == []
        with services.database.read() as connection:
            assert stray_streams(connection, services.log) == []


@pytest.mark.parametrize(
    ("change", "stored"), [("position = 99", 99), ("level = 7", 10)], ids=["of what is to come", "of no rung"]
)
def test_verify_finds_a_snapshot_that_reflects_nothing_there_is(
    database_url: str, monkeypatch: pytest.MonkeyPatch, change: str, stored: int
) -> None:
    monkeypatch.setattr(snapshots, "_LEAST_CHANGED", 1)
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(3, high=9, low=9)
        sweeps.services.queries.catch_up(["x"])
        with sweeps.services.database.write() as connection:
            connection.execute(text(f"UPDATE rung_snapshots SET {change}"))
        (found,) = sweeps.services.rebuilder.verify("x", nothing)
        assert (found.table, found.stored) == ("rung_snapshots", {"position": stored})


def test_verify_says_that_rows_cannot_be_read(sqlite_url: str) -> None:
    create_schema(sqlite_url)
    with sweeps_over(sqlite_url) as sweeps:
        sweeps.prepare(2, high=9, low=9)
        sweeps.services.queries.catch_up(["x"])
        with sweeps.services.database.write() as connection:
            connection.execute(text("UPDATE trials SET started_at = replace(started_at, 'T', ' ')"))
        with pytest.raises(ProjectionDiverged, match=r"rows cannot be read.*a time is written"):
            list(sweeps.services.rebuilder.verify("x", nothing))


def test_a_snapshot_is_written_once_enough_has_changed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_LEAST_CHANGED", 4)
    create_schema(database_url)

    def written(services: Services) -> dict[int, int]:
        services.queries.catch_up(["x"])
        with services.database.read() as connection:
            return dict(snapshots.snapshot_positions(connection, "x"))

    with sweeps_over(database_url) as sweeps, sweeps_over(database_url) as other:
        sweeps.prepare(3, high=9, low=9)
        assert written(sweeps.services) == {}
        sweeps.pause_more("4")
        # A process that knew nothing of it counts what others have changed.
        first = written(other.services)
        assert list(first) == [1]
        for trial_id in "567":
            other.pause_more(trial_id)
            assert written(other.services) == first
        other.pause_more("8")
        assert written(other.services)[1] > first[1]


def test_what_was_loaded_before_the_rows_were_made_anew_is_not_gone_on_with(database_url: str) -> None:
    create_schema(database_url)
    with sweeps_over(database_url) as operator, sweeps_over(database_url) as daemon:
        operator.prepare(2, high=2, low=2)
        operator.services.queries.catch_up(["x"])
        with operator.services.database.write() as connection:
            connection.execute(update(trials).where(trials.c.trial_id == "1").values(status="stopped"))
            connection.execute(update(limits).values(high=9))

        def known() -> tuple[str, int]:
            with daemon.services.projector.locked(["x"]) as locked:
                connection = locked["x"].stream.connection
                deployment = daemon.services.projector.held_deployment(connection)
                return locked["x"].state.trials["1"].status, deployment.limits["experiments", "checkpoints"].high

        assert [known(), known()] == [("stopped", 9)] * 2
        for stream in ("x", DEPLOYMENT_STREAM):
            operator.services.rebuilder.rebuild(stream, nothing)
        assert [known(), known()] == [("paused", 2)] * 2


def test_much_that_is_new_is_folded_without_the_lock(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create_schema(database_url)
    folded: list[tuple[int, bool]] = []
    fold = projector.fold_until

    def watched(log: EventLog, connection: Connection, state: ExperimentState, until: int) -> None:
        folded.append((until - state.position, connection.get_execution_options().get("postgresql_readonly", False)))
        fold(log, connection, state, until)

    with sweeps_over(database_url) as tuner, sweeps_over(database_url) as other:
        tuner.prepare(1, high=9, low=9)
        monkeypatch.setattr(projector, "_MOST_FOLDED_LOCKED", 3)
        monkeypatch.setattr(projector, "fold_until", watched)
        with other.services.projector.locked(["x"]) as locked:
            assert locked["x"].state.position == 4
            assert locked["x"].state.trials["1"].status == "paused"
    assert [number for number, _ in folded] == [4, 0]
    assert folded[0][1] == database_url.startswith("postgresql")

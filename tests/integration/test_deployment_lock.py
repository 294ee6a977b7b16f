"""What operators have said holds still while a claim is made or carried out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url, text

from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import DatabaseUnavailable
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from support import create_schema
from sweeps import AT_ONCE, KEEP, ROOT, Sweeps, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(2, high=1, low=1)
        yield ready


def test_a_store_that_is_removed_while_it_is_listed_keeps_its_checkpoints(sweeps: Sweeps) -> None:
    def remove(step: str, _: str) -> None:
        if step == "before manifest":
            sweeps.store.hook = silent
            sweeps.services.administration.remove_store(ROOT)

    sweeps.store.hook = remove
    assert sweeps.sweep(AT_ONCE).tally.decided == 0
    assert sweeps.store.contents(uri_of("2")) is not None
    sweeps.check_settled()


def impatient(url: str) -> Database:
    """Open a database whose sessions wait for no lock."""
    parsed = make_url(url).update_query_dict({"options": "-c lock_timeout=50ms"})
    return Database(parsed.render_as_string(hide_password=False))


@pytest.mark.parametrize("step", ["before trash", "before restore"])
def test_no_store_is_removed_while_a_checkpoint_is_moved(postgresql_url: str, step: str) -> None:
    create_schema(postgresql_url)
    tried: list[str] = []

    def remove(now: str, _: str) -> None:
        if now != step:
            return
        try:
            with EventLog(other).locked([DEPLOYMENT_STREAM]):
                pass
        except DatabaseUnavailable as error:
            tried.append(str(error))

    with closing(impatient(postgresql_url)) as other, sweeps_over(postgresql_url) as sweeps:
        sweeps.prepare(2, high=1, low=1)
        sweeps.store.hook = remove
        sweeps.sweep(KEEP)
        sweeps.resume("2")
    assert ["lock timeout" in error for error in tried] == [True]


def test_whoever_writes_has_a_turn_among_those_who_only_hold_the_stream(postgresql_url: str) -> None:
    create_schema(postgresql_url)
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

    def write() -> None:
        with EventLog(writer).locked([DEPLOYMENT_STREAM]):
            pass

    with (
        closing(Database(postgresql_url)) as holder,
        closing(Database(postgresql_url)) as writer,
        closing(impatient(postgresql_url)) as latecomer,
        ThreadPoolExecutor(1) as threads,
    ):
        with holder.write() as connection:
            EventLog(holder).held_deployment(connection)
            written = threads.submit(write)
            while not connection.execute(waiting).scalar():
                assert not written.done()
            with pytest.raises(DatabaseUnavailable), latecomer.write() as late:
                EventLog(latecomer).held_deployment(late)
        written.result()
        with latecomer.write() as late:
            EventLog(latecomer).held_deployment(late)


def test_the_trash_of_a_store_that_was_removed_is_left_alone(sweeps: Sweeps) -> None:
    sweeps.sweep(KEEP)
    sweeps.services.administration.remove_store(ROOT)
    report = sweeps.sweep(AT_ONCE)
    assert (report.sweep_id, report.tally.purged) == (None, 0)
    assert sweeps.checkpoint("2").state == "trashed"
    sweeps.services.restorer.restore(sweeps.decision().decided.decision_id)
    assert sweeps.checkpoint("2").state == "stored"
    sweeps.check_settled()


def test_a_store_that_is_removed_in_the_middle_of_a_batch_keeps_the_rest_of_its_trash(database_url: str) -> None:
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(4, high=1, low=1)
        sweeps.sweep(KEEP)

        def remove(step: str, _: str) -> None:
            if step == "before purge":
                sweeps.store.hook = silent
                sweeps.services.administration.remove_store(ROOT)

        sweeps.store.hook = remove
        assert sweeps.sweep(AT_ONCE).tally.purged == 1
        kept = [decision for decision in sweeps.state().decisions.values() if decision.outcome == "purging"]
        assert len(kept) == 2
        assert sweeps.store.claims() == {decision.decided.decision_id for decision in kept}
        sweeps.services.administration.add_store(ROOT)
        assert sweeps.sweep(AT_ONCE).tally.purged == 2
        sweeps.check_settled()

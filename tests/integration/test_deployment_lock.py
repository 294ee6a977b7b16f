"""What operators have said holds still while a claim is made or carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.eventlog.database import Database
from quota.eventlog.tables import streams
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


@pytest.mark.parametrize("step", ["before trash", "before restore"])
def test_no_store_is_removed_while_a_checkpoint_is_moved(postgresql_url: str, step: str) -> None:
    create_schema(postgresql_url)
    tried: list[str] = []
    other = Database(postgresql_url)

    def remove(now: str, _: str) -> None:
        if now != step:
            return
        row = select(streams).where(streams.c.experiment_id == DEPLOYMENT_STREAM)
        try:
            with other._writer.begin() as connection:  # noqa: SLF001 - errors are to come untranslated
                connection.execute(row.with_for_update(nowait=True))
        except OperationalError as error:
            tried.append(str(error.orig))

    with sweeps_over(postgresql_url) as sweeps:
        sweeps.prepare(2, high=1, low=1)
        sweeps.store.hook = remove
        sweeps.sweep(KEEP)
        sweeps.resume("2")
    other.close()
    assert ["could not obtain lock" in error for error in tried] == [True]


def test_the_trash_of_a_store_that_was_removed_is_left_alone(sweeps: Sweeps) -> None:
    sweeps.sweep(KEEP)
    sweeps.services.administration.remove_store(ROOT)
    report = sweeps.sweep(AT_ONCE)
    assert (report.sweep_id, report.tally.purged) == (None, 0)
    assert sweeps.checkpoint("2").state == "trashed"
    sweeps.services.restorer.restore(sweeps.decision().decided.decision_id)
    assert sweeps.checkpoint("2").state == "stored"
    sweeps.check_settled()

"""Where something contradicts the log, nothing is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from quota.errors import ClockJumped, ProjectionDiverged
from support import create_schema
from sweeps import AT_ONCE, Sweeps, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(2, high=1, low=1)
        yield ready


def test_a_row_that_was_changed_takes_no_promised_checkpoint(sweeps: Sweeps, database_url: str) -> None:
    sweeps.resume("2")
    sweeps.services.queries.catch_up(["x"])
    with sweeps.services.database.write() as connection:
        connection.execute(text("UPDATE trials SET status = 'paused', promised_uri = NULL WHERE trial_id = '2'"))
        connection.execute(text("UPDATE usage SET running_trials = 0, held_checkpoints = 2"))
        connection.execute(text("UPDATE rung_entries SET has_checkpoint = TRUE WHERE trial_id = '2'"))
        connection.execute(text("UPDATE checkpoints SET pinned = TRUE WHERE trial_id = '1'"))
    # Another process has no state in memory, and believes the rows.
    with sweeps_over(database_url) as others:
        others.store = sweeps.store
        others.services.sweeper._open_store = lambda _: sweeps.store  # noqa: SLF001 - one store for both
        with pytest.raises(ProjectionDiverged, match="trial 2 is paused by its row, and running by the log"):
            others.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None


def test_a_clock_that_is_wrong_deletes_nothing(sweeps: Sweeps) -> None:
    # The hand-made clock stands still in the past.
    sweeps.services.sweeper._trusts_no_clock = True  # noqa: SLF001 - as outside of tests
    with pytest.raises(ClockJumped, match="nothing is deleted before that is mended"):
        sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None

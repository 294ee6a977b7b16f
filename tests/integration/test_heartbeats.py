"""Daemons say that they are alive; those that have ended without a word are told from those that hang."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from quota.eventlog import heartbeats as module
from quota.eventlog.database import Database
from quota.eventlog.heartbeats import Heartbeats
from quota.services.ids import new_id
from support import create_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

EVERY = timedelta(seconds=10)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    create_schema(database_url)
    with closing(Database(database_url)) as opened:
        yield opened


def test_it_beats_and_ends(database: Database) -> None:
    heartbeats, daemon_id = Heartbeats(database, "me@here"), new_id()
    heartbeats.begin(daemon_id, "1.0", EVERY)
    heartbeats.note(daemon_id, "sweep", "the disk is on fire")
    (found,) = heartbeats.look()
    assert (found.holder, found.software_version, found.is_silent) == ("me@here", "1.0", False)
    assert (found.last_job, found.last_error) == ("sweep", "the disk is on fire")
    heartbeats.note(daemon_id, "sweep", None)
    assert heartbeats.look()[0].last_error is None
    heartbeats.end(daemon_id)
    assert heartbeats.look() == []


def test_one_that_says_nothing_for_three_beats_is_silent(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeats, daemon_id, start = Heartbeats(database, "me"), new_id(), database_now(database)
    heartbeats.begin(daemon_id, "1.0", EVERY)
    for seconds, is_silent in ((20, False), (40, True)):
        moment = start + timedelta(seconds=seconds)
        monkeypatch.setattr(Database, "now", lambda *_, moment=moment: moment)
        assert heartbeats.look()[0].is_silent == is_silent
    heartbeats.beat(daemon_id, EVERY)
    assert not heartbeats.look()[0].is_silent


@pytest.mark.parametrize(("process", "is_forgotten"), [("ended", True), ("elsewhere", False)])
def test_a_daemon_that_starts_forgets_the_dead_of_its_host(
    database: Database, monkeypatch: pytest.MonkeyPatch, process: str, *, is_forgotten: bool
) -> None:
    heartbeats, first, second = Heartbeats(database, "me"), new_id(), new_id()
    monkeypatch.setattr(module, "this_process", lambda: process)
    monkeypatch.setattr(module, "has_ended", lambda named: named == "ended")
    heartbeats.begin(first, "1.0", EVERY)
    monkeypatch.setattr(module, "this_process", lambda: "new")
    heartbeats.begin(second, "1.0", EVERY)
    assert (first not in {one.daemon_id for one in heartbeats.look()}) == is_forgotten


def test_one_that_has_been_silent_for_a_week_is_forgotten(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeats, first, second = Heartbeats(database, "me"), new_id(), new_id()
    later = database_now(database) + timedelta(days=7, seconds=1)
    heartbeats.begin(first, "1.0", EVERY)
    monkeypatch.setattr(Database, "now", lambda *_: later)
    heartbeats.begin(second, "1.0", EVERY)
    assert [one.daemon_id for one in heartbeats.look()] == [second]


def database_now(database: Database) -> datetime:
    with database.read() as connection:
        return database.now(connection)

"""What is logged: ours from the level that is wanted on, and of libraries only what means something."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING

import pytest
from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from quota.logs import are_json, configure

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    root, scheduler = logging.getLogger(), logging.getLogger("apscheduler.scheduler")
    handlers, levels = list(root.handlers), (root.level, scheduler.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    scheduler.setLevel(levels[1])


def test_a_job_that_takes_longer_than_its_interval_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "debug")
    skipped, done = Event(), Event()
    scheduler = BackgroundScheduler(timezone=UTC)
    scheduler.add_listener(lambda _: skipped.set(), EVENT_JOB_MAX_INSTANCES)
    often = IntervalTrigger(seconds=1, timezone=UTC)
    scheduler.add_job(done.wait, often, id="sweep", next_run_time=datetime.now(UTC))
    scheduler.start()
    try:
        assert skipped.wait(60)
    finally:
        done.set()
        scheduler.shutdown()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("form", ["text", "json"])
def test_it_is_known_whether_lines_are_json(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("json" if form == "json" else "text", "info")
    assert are_json() == (form == "json")
    logging.getLogger("quota").info("hello")
    assert capsys.readouterr().err.startswith("{") == (form == "json")

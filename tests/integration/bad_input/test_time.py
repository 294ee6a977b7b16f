"""BAD_INPUT, Time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from bad_input import REGISTERED, contents, event, experiment, line, refused_line, send
from quota.client import ExperimentHandle
from quota.domain.events.base import EARLIEST, LATEST
from quota.domain.policies import time_ratio
from quota.errors import TimeRefused
from quota.projections.tables import flags
from support import START

OUTSIDE = "it does not lie between 0001-01-03 and 9999-12-29"
EXAMPLE = "write ISO 8601 with a zone, e.g. 2026-11-23T15:00:00.123Z"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("2026-11-23T15:00:00", f"it has no zone; {EXAMPLE}"),
        ("yesterday", f"this is no time; {EXAMPLE}"),
        ("2026-13-01T00:00:00Z", f"this is no time; {EXAMPLE}"),
        ("", f"this is no time; {EXAMPLE}"),
        (1795453022, EXAMPLE),
        (None, EXAMPLE),
        ("0001-01-01T00:00:00+14:00", f"{OUTSIDE}; {EXAMPLE}"),
        ("0001-01-02T23:59:59.999999Z", f"{OUTSIDE}; {EXAMPLE}"),
        ("9999-12-29T00:00:00.000001Z", f"{OUTSIDE}; {EXAMPLE}"),
        ("9999-12-31T23:59:59Z", f"{OUTSIDE}; {EXAMPLE}"),
    ],
)
def test_time_is_refused(bad: object, reason: str) -> None:
    sent = event("trial_stopped", {"trial_id": "7"}, occurred_at=bad)
    error = refused_line(TimeRefused, line(sent))
    assert str(error) == f"line 7, event {sent['event_id']} (trial_stopped): field `occurred_at` is {bad!r}: {reason}"


def test_time_without_zone_is_refused_by_the_python_api(database_url: str) -> None:
    with experiment(database_url) as services:
        before = contents(services)
        naive = datetime(2026, 1, 1)  # noqa: DTZ001 - that it has no zone is the point
        with pytest.raises(TimeRefused, match=r"'2026-01-01 00:00:00': it has no zone; give an aware datetime"):
            ExperimentHandle(services, "tester", "one").trial_stopped("7", occurred_at=naive)
        assert contents(services) == before


def test_time_at_the_end_of_the_calendar_is_refused_by_the_python_api(database_url: str) -> None:
    with experiment(database_url) as services:
        before = contents(services)
        with pytest.raises(TimeRefused, match=f"'9999-12-31 23:59:59.999999.00:00': {OUTSIDE}; give an aware datetime"):
            ExperimentHandle(services, "tester", "one").trial_stopped("7", occurred_at=datetime.max.replace(tzinfo=UTC))
        assert contents(services) == before


def test_times_at_both_ends_of_what_is_accepted_can_be_read_again(database_url: str) -> None:
    with experiment(database_url) as services:
        report = {"trial_id": "7", "resource": 2, "metric": 0.5}
        ends = ["0001-01-03T00:00:00Z", "9999-12-29T00:00:00Z"]
        send(services, *(event("trial_reported", report, occurred_at=end) for end in ends))
        with services.database.read() as connection:
            read = list(services.log.read(connection, "one", after=2))
        assert [one.occurred_at for one in read] == [EARLIEST, LATEST]
        assert services.rebuilder.rebuild("one", lambda _: None) == 4
        times = services.queries.ask("SELECT occurred_at FROM trial_history WHERE type = 'trial_reported'")
        assert len(times) == 2


def test_time_that_cannot_be_right_is_kept_flagged_and_not_used(database_url: str) -> None:
    with experiment(database_url) as services:
        report = {"trial_id": "7", "resource": 2, "metric": 0.5}
        send(
            services,
            event("trial_reported", report, occurred_at="2025-12-31T00:00:00Z"),
            event("trial_started", {"trial_id": "8"}, occurred_at="2026-01-01T00:01:00Z"),
            event("trial_reported", report | {"trial_id": "8"}, occurred_at="2026-01-01T00:00:30Z"),
            event("trial_reported", report, occurred_at="2999-01-01T00:00:00Z"),
        )
        services.queries.catch_up(["one"])
        with services.database.read() as connection:
            found = connection.execute(select(flags.c.position, flags.c.reason).order_by(flags.c.position)).all()
        assert [tuple(row) for row in found] == [
            (3, "time_before_registration"),
            (5, "time_before_start"),
            (6, "time_in_future"),
        ]
        assert services.queries.ask("SELECT resource FROM trials WHERE trial_id = '7'") == [{"resource": 2}]


def test_registration_in_the_future_is_not_what_elapsed_time_counts_from(database_url: str) -> None:
    with experiment(database_url) as services:
        send(
            services,
            event("experiment_registered", REGISTERED, experiment_id="two", occurred_at="2999-01-01T00:00:00Z"),
        )
        with services.projector.locked(["two"]) as locked:
            registered = locked["two"].state.registered
        assert registered.started_at.year < 2999
        assert time_ratio(registered, registered.started_at + timedelta(seconds=200)) == 2.0
        assert registered.started_at > START

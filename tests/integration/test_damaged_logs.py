"""A log whose rows contradict themselves, or each other: errors say so, and no damage to one stream stops another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from bad_input import REGISTERED, event, experiment, send
from quota.domain.events import LimitSet
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import LogCorrupt, ProjectionDiverged
from support import create_schema, tamper
from sweeps import KEEP, sweeps_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quota.bootstrap import Services

PAUSED = event("trial_paused", {"trial_id": "7", "level": 1, "metric": 0.5})
AUDIT_FIRST = "run `ckpt-quota audit verify` first"


@pytest.fixture
def services(database_url: str) -> Iterator[Services]:
    """Two experiments, `one` and `two`, and a deployment of three events."""
    with experiment(database_url) as opened:
        reports = [event("trial_reported", {"trial_id": "7", "resource": n, "metric": n / 3}) for n in range(1, 4)]
        send(opened, *reports, event("experiment_registered", REGISTERED, experiment_id="two"))
        for limit in (3, 4, 5):
            opened.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=limit, low=1))
        opened.queries.catch_up(["one", "two"])
        yield opened


def nothing(_: int) -> None:
    pass


def verify(services: Services, stream: str) -> list[object]:
    return list(services.rebuilder.verify(stream, nothing))


def changed(stream: str, position: int, type_name: str, data: dict[str, Any]) -> str:
    written = json.dumps(data).replace(":", "\\:")
    return (
        f"UPDATE events SET type = '{type_name}', data = '{written}'"
        f" WHERE experiment_id = '{stream}' AND position = {position}"
    )


def delete(stream: str, position: int) -> str:
    return f"DELETE FROM events WHERE experiment_id = '{stream}' AND position = {position}"


@pytest.mark.parametrize("stream", ["one", DEPLOYMENT_STREAM])
@pytest.mark.parametrize(
    ("position", "known"), [(1, "event 2 follows"), (2, "event 3 follows"), (-1, "the stream's head says")]
)
def test_a_missing_event_keeps_the_rows_as_they_are(services: Services, stream: str, position: int, known: str) -> None:
    last = 5 if stream == "one" else 3
    missing = last if position < 0 else position
    tamper(services, [delete(stream, missing)])
    for attempt in (lambda: services.rebuilder.rebuild(stream, nothing), lambda: verify(services, stream)):
        with pytest.raises(LogCorrupt, match=f"event {missing} of {stream}: it is missing") as refused:
            attempt()
        assert known in str(refused.value)
        assert AUDIT_FIRST in str(refused.value)
    assert services.rebuilder.rebuild("two", nothing) == 1
    assert services.administration.look().limits


def test_rows_that_reflect_more_than_the_log_holds_are_not_advised_to_be_made_anew(services: Services) -> None:
    """Whoever has removed events together with the head would have them forgotten."""
    tamper(services, [delete("one", 5), "UPDATE streams SET position = 4 WHERE experiment_id = 'one'"])
    with pytest.raises(ProjectionDiverged, match="the rows reflect 5, and the log ends at 4") as refused:
        verify(services, "one")
    assert "purges among it: run `ckpt-quota audit verify` first" in str(refused.value)
    with pytest.raises(ProjectionDiverged, match="the rows reflect 5"):
        services.queries.catch_up(["one"])


def test_an_event_of_the_deployment_that_is_missing_is_said(services: Services) -> None:
    tamper(services, [delete(DEPLOYMENT_STREAM, 2)])
    with services.database.write() as connection:
        connection.execute(text("UPDATE projected_streams SET position = 1 WHERE experiment_id = '_deployment'"))
    with pytest.raises(LogCorrupt, match="event 2 of _deployment: it is missing"):
        services.administration.look()


def test_an_event_that_does_not_fit_is_said_by_its_stream(services: Services) -> None:
    """The log's fault where its events do not fit each other; else it may be the rows'."""
    send(services, PAUSED)
    tamper(services, [changed("one", 6, "trial_paused", {"trial_id": "9", "level": 1, "metric": 0.5})])
    with (
        services.database.read() as connection,
        pytest.raises(ProjectionDiverged, match="event 6 does not fit the rows") as diverged,
    ):
        services.projector.look(connection, "one")
    assert AUDIT_FIRST in str(diverged.value)
    with pytest.raises(LogCorrupt, match="event 6 of one: it does not fit those before it"):
        services.rebuilder.rebuild("one", nothing)


def test_an_event_of_the_deployment_that_does_not_fit_is_said(services: Services) -> None:
    tamper(services, [changed(DEPLOYMENT_STREAM, 3, "store_removed", {"uri": "file:///x"})])
    with pytest.raises(LogCorrupt, match="event 3 of _deployment: it does not fit those before it: KeyError"):
        services.rebuilder.rebuild(DEPLOYMENT_STREAM, nothing)
    with services.database.write() as connection:
        connection.execute(text("UPDATE projected_streams SET position = 2 WHERE experiment_id = '_deployment'"))
    with pytest.raises(ProjectionDiverged, match="projections of the deployment: event 3 does not fit the rows"):
        services.administration.look()


@pytest.mark.parametrize("damage", ["DELETE FROM rungs", "UPDATE decisions SET decided_position = 1"])
def test_rows_that_cannot_be_read_are_said_to_be_wrong(database_url: str, damage: str) -> None:
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        sweeps.prepare(2, high=1, low=1)
        sweeps.sweep(KEEP)
        with sweeps.services.database.write() as connection:
            connection.execute(text(damage))
        if "decisions" in damage:
            tamper(sweeps.services, [delete("x", 1)])
        with pytest.raises(ProjectionDiverged, match="projections of experiment x: the rows cannot be read") as refused:
            sweeps.state()
        assert AUDIT_FIRST in str(refused.value)

"""What a store must not delete is recorded once, and tried again only when an operator wants that."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from quota.errors import DeletionForbidden
from support import create_schema
from sweeps import AT_ONCE, DAY, SIZE, Sweeps, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(3, high=2, low=2)
        ready.store.hook = forbid
        report = ready.sweep(AT_ONCE)
        assert (report.tally.evicted, report.tally.purged, report.tally.failed) == (1, 0, 1)
        assert ready.decision().outcome == "forbidden"
        yield ready


def forbid(step: str, about: str) -> None:
    if step == "before purge":
        message = f"claim {about}: it is under legal hold"
        raise DeletionForbidden(message)


def test_it_counts_as_trash_and_nobody_tries_again(sweeps: Sweeps) -> None:
    for _ in range(3):
        sweeps.wait(30 * DAY)
        report = sweeps.sweep(AT_ONCE)
        assert (report.sweep_id, report.tally.failed) == (None, 0)
    usage = sweeps.state().usage
    assert (usage.trashed_checkpoints, usage.trashed_bytes, usage.freed_bytes) == (1, SIZE, 0)
    decision = sweeps.decision()
    said = f"checkpoint {uri_of('3')}: claim {decision.decided.decision_id}: it is under legal hold"
    assert (decision.failures, decision.error) == (1, said)
    for stream in ("x", "_deployment"):
        assert list(sweeps.services.rebuilder.verify(stream, lambda _: None)) == []


def test_an_operator_has_it_tried_again(sweeps: Sweeps) -> None:
    retry = replace(AT_ONCE, retry_forbidden=True)
    assert sweeps.sweep(retry).tally.failed == 1
    assert sweeps.decision().outcome == "forbidden"
    sweeps.store.hook = silent
    report = sweeps.sweep(retry)
    assert (report.tally.purged, report.tally.freed_bytes) == (1, SIZE)
    sweeps.check_settled()


def test_a_resume_gets_it_back_as_long_as_it_is_whole(sweeps: Sweeps) -> None:
    checkpoint = sweeps.resume("3").checkpoint
    assert checkpoint is not None
    assert sweeps.store.contents(checkpoint.uri) == {"weights": b"w" * SIZE}
    sweeps.check_settled()


def test_an_operator_restores_it(sweeps: Sweeps) -> None:
    sweeps.services.restorer.restore(sweeps.decision().decided.decision_id)
    assert sweeps.store.contents(uri_of("3")) == {"weights": b"w" * SIZE}
    sweeps.check_settled()

"""What the command line asks the database, on both kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quota.domain.events import CheckpointMissing
from quota.errors import NotFound
from quota.services.querying import ESTIMATORS, EXPERIMENTS, INVENTORY, RUNGS, USAGE
from support import create_schema
from sweeps import AT_ONCE, KEEP, Sweeps, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(3, high=2, low=2)
        ready.sweep(KEEP)
        ready.limit("experiments", 1, 1)
        ready.sweep(AT_ONCE)
        yield ready


@pytest.mark.parametrize(
    ("experiment_id", "outcome", "trials"),
    [
        (None, None, ["2", "3"]),
        ("x", None, ["2", "3"]),
        ("y", None, []),
        (None, "purged", ["2", "3"]),
        ("x", "trashed", []),
    ],
)
def test_evictions(sweeps: Sweeps, experiment_id: str | None, outcome: str | None, trials: list[str]) -> None:
    rows = sweeps.services.queries.evictions(experiment_id, outcome, 50)
    assert sorted(row["trial_id"] for row in rows) == trials


def test_evictions_of_a_trial_and_of_a_sweep(sweeps: Sweeps) -> None:
    evictions = sweeps.services.queries.evictions
    (row,) = evictions("x", None, 50, trial_id="2")
    assert row["trial_id"] == "2"
    chosen = evictions(None, None, 50, sweep_id=str(row["sweep_id"]))
    assert {one["sweep_id"] for one in chosen} == {row["sweep_id"]}
    assert len(chosen) < len(evictions(None, None, 50))
    assert evictions(None, None, 50, sweep_id="none") == []


def test_what_is_shown_of_an_experiment(sweeps: Sweeps) -> None:
    ask = sweeps.services.queries.ask
    for experiment_id in ("x", None):
        assert [row["experiment_id"] for row in ask(EXPERIMENTS, experiment_id=experiment_id)] == ["x"]
    assert len(ask(USAGE)) == 1
    assert len(ask(INVENTORY, experiment_id="x")) == 3
    assert len(ask(ESTIMATORS, experiment_id="x")) == 3
    assert len(ask(RUNGS, experiment_id="x")) == 2
    assert sweeps.services.queries.newest_uri("x", "1") == uri_of("1")


@pytest.mark.parametrize("decision_id", ["nope", "019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10", "\udcff"])
def test_restore_of_no_decision(sweeps: Sweeps, decision_id: str) -> None:
    with pytest.raises(NotFound):
        sweeps.services.restorer.restore(decision_id)


@pytest.mark.parametrize("trial_id", ["9", "\udcff", ""])
def test_newest_checkpoint_of_no_trial(sweeps: Sweeps, trial_id: str) -> None:
    with pytest.raises(NotFound, match="it has no checkpoint"):
        sweeps.services.queries.newest_uri("x", trial_id)


def test_the_newest_that_lies_there_goes_before_a_newer_one_that_does_not(sweeps: Sweeps) -> None:
    sweeps.resume("1")
    sweeps.save("1", "-later", resource=3)
    newest = sweeps.services.queries.newest_uri
    assert newest("x", "1") == uri_of("1", "-later")
    sweeps.send(CheckpointMissing(trial_id="1", uri=uri_of("1", "-later")))
    assert newest("x", "1") == uri_of("1")
    sweeps.send(CheckpointMissing(trial_id="1", uri=uri_of("1")))
    assert newest("x", "1") == uri_of("1", "-later")


def test_who_only_looks_waits_for_no_writer(sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = sweeps.services.queries
    queries.catch_up(["x"])
    with monkeypatch.context() as patch:
        patch.setattr(sweeps.services.projector, "locked", lambda _: pytest.fail("it takes a lock"))
        queries.catch_up(["x"])
    sweeps.pause_more("77")
    queries.catch_up(["x"])
    assert len(queries.ask(INVENTORY, experiment_id="x")) == 4

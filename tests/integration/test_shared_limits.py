"""Limits that experiments share, in a sweep: what makes room, what stays, and what nobody may take."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from quota.domain.events import (
    CheckpointPinned,
    ExperimentRegistered,
    LimitSet,
    ReserveSet,
    TrialPaused,
    TrialStarted,
    TrialStopped,
)
from support import create_schema
from sweeps import BY_LEVEL, DAY, KEEP, ROOT, SIZE, Killed, Sweeps, killing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quota.domain.events import LimitMeasure
    from quota.services.sweep_order import SweepReport


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    """Prepare experiments `x` and `y` of two teams, each with three paused trials; the best ones come first."""
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.services.administration.add_store(ROOT)
        for sweeps, team in ((ready, "vision"), (other(ready), "nlp")):
            registered = ExperimentRegistered(
                mode="min",
                rung_levels=(1, 3),
                promotion_quantiles=(1 / 3, 1 / 3),
                max_resource=9,
                labels={"team": team, "site": "one"},
            )
            sweeps.send(registered)
            for number in range(1, 4):
                trial_id = name_of(sweeps, number)
                sweeps.send(TrialStarted(trial_id=trial_id))
                sweeps.pause(trial_id, metric=float(number))
        yield ready


def other(sweeps: Sweeps) -> Sweeps:
    return replace(sweeps, experiment_id="y")


def name_of(sweeps: Sweeps, number: int) -> str:
    return f"{sweeps.experiment_id}{number}"


def limit(sweeps: Sweeps, high: int, low: int, *, scope: str = "deployment", measure: LimitMeasure = "bytes") -> None:
    sweeps.services.administration.set_limit(LimitSet(scope=scope, measure=measure, high=high, low=low))


def sweep(sweeps: Sweeps, *experiment_ids: str) -> SweepReport:
    return sweeps.services.sweeper.sweep(experiment_ids or ("x", "y"), KEEP)


def lying(sweeps: Sweeps) -> set[str]:
    names = [name_of(one, number) for one in (sweeps, other(sweeps)) for number in range(1, 4)]
    return {name for name in names if sweeps.store.contents(f"{ROOT}{name}/") is not None}


def test_what_has_to_make_room_is_purged_in_the_same_sweep(sweeps: Sweeps) -> None:
    limit(sweeps, 5 * SIZE, 4 * SIZE)
    report = sweep(sweeps)
    assert (report.tally.evicted, report.tally.purged, report.tally.freed_bytes) == (2, 2, 2 * SIZE)
    assert report.excesses == []
    assert lying(sweeps) == {"x1", "x2", "y1", "y2"}
    assert sweep(sweeps).sweep_id is None


def test_under_a_limit_on_checkpoints_the_trash_is_kept(sweeps: Sweeps) -> None:
    limit(sweeps, 5, 4, measure="checkpoints")
    report = sweep(sweeps)
    assert (report.tally.evicted, report.tally.purged) == (2, 0)
    assert lying(sweeps) == {"x1", "x2", "y1", "y2"}


def test_what_is_in_the_trash_makes_room_before_anything_else_goes(sweeps: Sweeps) -> None:
    limit(sweeps, 5, 4, measure="checkpoints")
    sweep(sweeps)
    limit(sweeps, 5 * SIZE, 5 * SIZE)
    report = sweep(sweeps)
    assert (report.tally.evicted, report.tally.purged) == (0, 1)


def test_trash_that_is_pinned_by_a_scope_comes_back_and_makes_no_room(sweeps: Sweeps) -> None:
    limit(sweeps, 4, 4, measure="checkpoints")
    sweep(sweeps)
    assert lying(sweeps) == {"x1", "x2", "y1", "y2"}
    sweeps.services.administration.remove_limit("deployment", "checkpoints")
    sweeps.services.administration.pin_scope("label:team=nlp")
    limit(sweeps, 5 * SIZE, 5 * SIZE)
    sweeps.wait(2 * DAY)
    report = sweep(sweeps)
    assert (report.tally.evicted, report.tally.purged) == (0, 1)
    assert lying(sweeps) == {"x1", "x2", "y1", "y2", "y3"}


def test_trash_of_an_experiment_that_is_not_swept_makes_no_room(sweeps: Sweeps) -> None:
    limit(sweeps, 4, 4, measure="checkpoints")
    sweep(sweeps)
    limit(sweeps, 4 * SIZE, 4 * SIZE)
    report = sweep(sweeps, "x")
    # That in the trash of `x` goes, and then one more of it; `y` holds two and its trash, and keeps both.
    assert (report.tally.evicted, report.tally.purged) == (1, 2)
    assert lying(sweeps) == {"x1", "y1", "y2"}
    assert [one.outcome for one in other(sweeps).state().decisions.values()] == ["trashed"]


def test_a_limit_of_one_team_leaves_the_other_alone(sweeps: Sweeps) -> None:
    limit(sweeps, SIZE, SIZE, scope="label:team=nlp")
    sweep(sweeps)
    assert lying(sweeps) == {"x1", "x2", "x3", "y1"}


def test_a_limit_that_cannot_be_held_is_told_of_with_the_reasons(sweeps: Sweeps) -> None:
    sweeps.services.administration.set_reserve(ReserveSet(scope="label:team=nlp", measure="checkpoints", amount=2))
    sweeps.send(CheckpointPinned(trial_id="x1", uri=f"{ROOT}x1/"))
    other(sweeps).resume("y1")
    limit(sweeps, SIZE, SIZE)
    report = sweep(sweeps)
    assert report.exceeded_scopes == ["deployment"]
    assert report.held_back["deployment"] == {"pinned": 1, "reserved": 1, "running": 1}
    assert lying(sweeps) == {"x1", "y1", "y2"}


@pytest.mark.parametrize("kept", ["not swept", "young", "pinned"])
def test_what_no_trial_would_load_fills_no_reserve_whyever_it_stays(sweeps: Sweeps, kept: str) -> None:
    administration, beside = sweeps.services.administration, other(sweeps)
    administration.set_reserve(ReserveSet(scope="label:site=one", measure="checkpoints", amount=7))
    # It may still load what it was promised.
    beside.resume("y1")
    sweeps.wait(DAY)
    for place in ("-a", "-b", "-c"):
        beside.save("y1", place)
    if kept == "pinned":
        beside.send(*(CheckpointPinned(trial_id="y1", uri=uri_of("y1", place)) for place in ("-a", "-b")))
    limit(sweeps, 6, 6, measure="checkpoints")
    order = replace(KEEP, parameters=structs.replace(BY_LEVEL, min_age_seconds=float(kept == "young")))
    report = sweeps.services.sweeper.sweep(["x"] if kept == "not swept" else ["x", "y"], order)
    assert lying(sweeps) == {"x1", "x2", "x3", "y1", "y2", "y3"}
    assert report.held_back["deployment"]["reserved"] == (3 if kept == "not swept" else 5)


def test_a_reserve_that_is_set_during_a_sweep_is_kept(sweeps: Sweeps) -> None:
    limit(sweeps, 2, 2, measure="checkpoints")

    def set_first(_step: str, _about: str) -> None:
        sweeps.store.hook = silent
        reserve = ReserveSet(scope="label:team=nlp", measure="checkpoints", amount=3)
        sweeps.services.administration.set_reserve(reserve)

    sweeps.store.hook = set_first
    report = sweep(sweeps)
    assert lying(sweeps) == {"y1", "y2", "y3"}
    assert report.held_back["deployment"] == {"reserved": 3}


def test_what_has_no_content_holds_no_limit_on_bytes_back(sweeps: Sweeps) -> None:
    sweeps.send(CheckpointPinned(trial_id="x1", uri=uri_of("x1")), TrialStarted(trial_id="x4"))
    sweeps.save("x4", size=0)
    sweeps.send(TrialPaused(trial_id="x4", level=1, metric=0.5))
    limit(sweeps, 1, 1)
    assert sweep(sweeps).held_back["deployment"] == {"pinned": 1}


def test_what_no_trial_will_load_goes_before_anything_else(sweeps: Sweeps) -> None:
    other(sweeps).send(TrialStopped(trial_id="y1"))
    limit(sweeps, 5 * SIZE, 5 * SIZE)
    sweep(sweeps)
    assert lying(sweeps) == {"x1", "x2", "x3", "y2", "y3"}
    (decided,) = [one.payload for one in sweeps.events("y") if one.payload.TYPE == "eviction_decided"]
    assert (getattr(decided, "reason", ""), getattr(decided, "limit_measure", "")) == ("stopped", "bytes")


@pytest.mark.parametrize("step", ["after trash", "before purge", "after purge"])
def test_a_sweep_that_was_killed_is_finished_by_the_next_one(sweeps: Sweeps, step: str) -> None:
    limit(sweeps, 5 * SIZE, 4 * SIZE)
    sweeps.store.hook = killing(step)
    with pytest.raises(Killed):
        sweep(sweeps)
    sweeps.store.hook = silent
    sweeps.wait(timedelta(minutes=2))
    sweep(sweeps)
    assert lying(sweeps) == {"x1", "x2", "y1", "y2"}
    # Where the limit holds again before all that was evicted is purged, the rest stays for as long as any trash does.
    both = (sweeps, other(sweeps))
    assert sum(one.state().usage.used_bytes for one in both) <= 5 * SIZE
    for one in both:
        assert {decision.outcome for decision in one.state().decisions.values()} <= {"trashed"}
        assert list(one.services.rebuilder.verify(one.experiment_id, lambda _: None)) == []

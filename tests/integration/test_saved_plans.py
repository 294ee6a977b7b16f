"""A saved plan is applied as it was read, or not at all; whatever happens meanwhile, nothing else goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from integration.test_recomputing import tell
from quota.domain.approval import Approval
from quota.domain.events import (
    CheckpointMissing,
    CheckpointPinned,
    EvictionDecided,
    LimitSet,
    PolicyParameters,
    SweepStarted,
    TrialPaused,
    TrialReported,
    TrialStarted,
    TrialStopped,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import LeaseHeld, PlanStale
from quota.services.saved_plans import ReadPlan, parse_plan
from quota.services.settling import Settler
from recomputing import not_recomputed, whole_stream
from support import create_schema
from sweeps import BY_LEVEL, DAY, KEEP, SIZE, Killed, Sweeps, killing, refusing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quota.services.sweep_order import SweepOrder, SweepReport


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    """Prepare five paused trials, the best ones first, one that runs, and a limit that lets four of them be."""
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(5, high=4, low=4)
        ready.send(TrialStarted(trial_id="9"))
        yield ready


def saved(sweeps: Sweeps, parameters: PolicyParameters = BY_LEVEL) -> ReadPlan:
    ids = sweeps.services.queries.experiment_ids()
    planned = sweeps.services.planner.plan(ids, parameters)
    text = sweeps.services.plan_keeper.saved(planned, ids, parameters, parameters.policy)
    return parse_plan(text, "plan.json")


def applied(
    sweeps: Sweeps, read: ReadPlan, order: SweepOrder = KEEP, configured: PolicyParameters | None = None
) -> SweepReport:
    parameters = read.plan.parameters
    confirmed = partial(sweeps.services.plan_keeper.confirmed, read, configured or parameters)
    order = replace(order, parameters=parameters, approval=read.approval)
    return sweeps.services.sweeper.apply(confirmed, read.plan.experiment_ids, order)


def lying(sweeps: Sweeps) -> str:
    return "".join(name for name in "12345" if sweeps.store.contents(uri_of(name)) is not None)


def test_a_saved_plan_evicts_just_what_it_names(sweeps: Sweeps) -> None:
    read = saved(sweeps)
    assert {uri for _, uri, _ in read.approval.evictions} == {uri_of("4"), uri_of("5")}
    # Of what came in since, nothing makes another plan of it.
    sweeps.wait(timedelta(hours=1))
    sweeps.send(TrialReported(trial_id="9", resource=1, metric=0.5))
    report = applied(sweeps, read)
    assert (report.tally.evicted, report.excesses, report.not_taken) == (2, [], [])
    assert lying(sweeps) == "123"
    sweeps.check_settled(open_decisions=2)
    with pytest.raises(PlanStale, match="it is trashed by now"):
        applied(sweeps, read)


def save_later(sweeps: Sweeps) -> None:
    sweeps.resume("5")
    sweeps.save("5", "-later", resource=3)
    sweeps.send(TrialPaused(trial_id="5", level=3, metric=0.5))


def limit(sweeps: Sweeps, scope: str, high: int, low: int) -> None:
    sweeps.services.administration.set_limit(LimitSet(scope=scope, measure="bytes", high=high, low=low))


CHANGES: list[tuple[str, Callable[[Sweeps], object], str]] = [
    ("resumed", lambda one: one.resume("5"), "checkpoint memory://store/5/ of trial 5 .* its trial was resumed"),
    ("another instead", lambda one: one.resume("5"), "checkpoint memory://store/3/ of trial 3 .* would go, too"),
    ("superseded", save_later, r"would go as superseded \(10 bytes\) .*, and not as paused \(10 bytes\)"),
    ("stopped", lambda one: one.send(TrialStopped(trial_id="5")), "its trial has ended"),
    ("pinned", lambda one: one.send(CheckpointPinned(trial_id="5", uri=uri_of("5"))), "it is pinned"),
    ("pinned by scope", lambda one: one.services.administration.pin_scope("experiment:x"), "it is pinned"),
    ("saved again", lambda one: one.save("5"), "its trial has saved another one there"),
    ("missing", lambda one: one.send(CheckpointMissing(trial_id="5", uri=uri_of("5"))), "it is missing by now"),
    ("evicted", lambda one: one.sweep(), "it is trashed by now"),
    ("a new trial", lambda one: one.pause_more("6"), "checkpoint memory://store/6/ of trial 6 .* would go, too"),
    ("a limit changed", lambda one: one.limit("experiments", 5, 4), r"it is 5 \(low 4\) by now, and was 4"),
    ("a limit is met", lambda one: one.limit("experiments", 9, 9), "less has to go, or others are missed less"),
    ("a new limit", lambda one: limit(one, "deployment", 999, 999), "limit on deployment, bytes: it is new"),
    (
        "no limit",
        lambda one: one.services.administration.remove_limit("experiments"),
        "limit on experiments, checkpoints: there is none any more",
    ),
]


@pytest.mark.parametrize(("_name", "change", "said"), CHANGES, ids=[case[0] for case in CHANGES])
def test_a_plan_is_refused_once_it_would_be_another_one(
    sweeps: Sweeps, _name: str, change: Callable[[Sweeps], object], said: str
) -> None:
    read = saved(sweeps)
    change(sweeps)
    before, heads = lying(sweeps), sweeps.services.auditor.heads()
    with pytest.raises(PlanStale, match=said):
        applied(sweeps, read)
    assert lying(sweeps) == before
    assert sweeps.services.auditor.heads() == heads


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        (PolicyParameters(policy="by_level", keep_completed=2), "setting keep_completed: it is 2 by now"),
        (PolicyParameters(policy="syne-tune"), "setting policy: it is syne-tune by now, and was by_level"),
    ],
)
def test_a_plan_is_refused_once_settings_are_others(sweeps: Sweeps, configured: PolicyParameters, said: str) -> None:
    with pytest.raises(PlanStale, match=said):
        applied(sweeps, saved(sweeps), configured=configured)
    assert lying(sweeps) == "12345"


def test_a_plan_of_another_database_is_refused(sweeps: Sweeps, tmp_path_factory: pytest.TempPathFactory) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('other')}/quota.db"
    create_schema(url)
    with sweeps_over(url) as others:
        others.prepare(5, high=4, low=4)
        others.send(TrialStarted(trial_id="9"))
        with pytest.raises(
            PlanStale, match="the log of _deployment has another event 2, or none: this is another data"
        ):
            applied(others, saved(sweeps))
        assert lying(others) == "12345"


def test_a_plan_that_is_yet_to_be_made_is_refused(sweeps: Sweeps) -> None:
    read = saved(sweeps)
    sweeps.wait(timedelta(minutes=-6))
    with pytest.raises(PlanStale, match="which is yet to come"):
        applied(sweeps, read)


def test_a_plan_waits_for_no_other_sweep(sweeps: Sweeps) -> None:
    read = saved(sweeps)
    with sweeps.services.sweeper.running(KEEP), pytest.raises(LeaseHeld):
        applied(sweeps, read)


def test_what_is_resumed_after_the_check_stays_and_nothing_goes_instead(sweeps: Sweeps) -> None:
    read, resumed = saved(sweeps), list[str]()

    def resume_at_once(step: str, _about: str) -> None:
        if step == "before manifest" and not resumed:
            resumed.append(step)
            assert sweeps.resume("5").checkpoint is not None

    sweeps.store.hook = resume_at_once
    report = applied(sweeps, read)
    assert (report.tally.decided, report.tally.evicted) == (1, 1)
    assert lying(sweeps) == "1235"
    assert report.not_taken == [f"checkpoint {uri_of('5')} of trial 5 of experiment x: its trial was resumed"]
    assert report.held_back == {"x": {"running": 2, "unapproved": 3}}
    sweeps.check_settled(open_decisions=1)


def test_what_is_resumed_after_its_claim_stays_and_nothing_goes_instead(
    sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, settle = saved(sweeps), Settler.settle_claims

    def resume_first(settler: Settler, experiment_id: str, moved: Callable[[], None]) -> None:
        if sweeps.checkpoint("5").state == "claimed":
            sweeps.resume("5")
        settle(settler, experiment_id, moved)

    monkeypatch.setattr(Settler, "settle_claims", resume_first)
    report = applied(sweeps, read)
    assert (report.tally.decided, report.tally.evicted, report.exceeded) == (2, 1, ["x"])
    assert lying(sweeps) == "1235"
    assert "its trial was resumed" in report.not_taken[0]


def test_a_limit_that_is_changed_after_the_check_lets_nothing_go(sweeps: Sweeps) -> None:
    read, changed = saved(sweeps), list[str]()

    def change_at_once(step: str, _about: str) -> None:
        if step == "before manifest" and not changed:
            changed.append(step)
            sweeps.limit("experiments", 3, 3)

    sweeps.store.hook = change_at_once
    report = applied(sweeps, read)
    assert (report.tally.decided, len(report.not_taken), report.exceeded) == (0, 2, ["x"])
    assert lying(sweeps) == "12345"


def test_what_is_missing_or_refused_lets_nothing_go_instead(sweeps: Sweeps) -> None:
    sweeps.limit("experiments", 3, 3)
    read = saved(sweeps)
    sweeps.store.remove_checkpoint(uri_of("5"))
    sweeps.store.hook = refusing("before manifest", uri_of("4"))
    report = applied(sweeps, read)
    assert (report.tally.missing, report.tally.failed, report.tally.evicted) == ([uri_of("5")], 1, 1)
    assert lying(sweeps) == "124"
    assert [one.split()[1] for one in report.not_taken] == [uri_of("5"), uri_of("4")]


def test_what_is_not_approved_is_not_claimed_whatever_a_plan_says(sweeps: Sweeps) -> None:
    (plan,) = sweeps.services.planner.plan(["x"], BY_LEVEL).plans
    uri = uri_of("5")
    only = Approval(
        made_at=sweeps.clock.moment,
        digest="",
        evictions=frozenset({("x", uri, sweeps.checkpoint("5").saved_position), ("x", uri_of("4"), 1)}),
    )
    with sweeps.services.sweeper.running(replace(KEEP, approval=only)) as run:
        assert len(plan.evictions) == 2
        run.carry_out_part(plan)
        run.finish()
    assert (run.report.tally.decided, sweeps.checkpoint("4").state) == (1, "stored")
    assert lying(sweeps) == "1234"


def test_a_plan_is_not_applied_without_what_it_approves(sweeps: Sweeps) -> None:
    with pytest.raises(ValueError, match="applied by what it approves"):
        sweeps.services.sweeper.apply(lambda: sweeps.services.planner.plan(["x"], BY_LEVEL), ["x"], KEEP)
    assert lying(sweeps) == "12345"


def trash_one(sweeps: Sweeps) -> str:
    """Let a sweep put trial 5's into the trash; returns the decision."""
    sweeps.limit("experiments", 5, 5)
    assert sweeps.sweep().tally.evicted == 1
    sweeps.wait(timedelta(minutes=1))
    return sweeps.decision().decided.decision_id


def test_room_is_made_as_planned(sweeps: Sweeps) -> None:
    earlier = trash_one(sweeps)
    limit(sweeps, "deployment", 3 * SIZE, 2 * SIZE)
    read = saved(sweeps)
    assert read.approval.purges == {("x", earlier)}
    report = applied(sweeps, read)
    assert (report.tally.evicted, report.tally.purged, report.excesses) == (2, 3, [])
    assert lying(sweeps) == "12"
    assert earlier in sweeps.store.deleted
    sweeps.check_settled()


def test_room_is_made_of_nothing_else(sweeps: Sweeps) -> None:
    earlier = trash_one(sweeps)
    sweeps.limit("experiments", 4, 4)
    limit(sweeps, "deployment", 4 * SIZE, 4 * SIZE)
    # What goes for the experiment's limit suffices for the other one: the trash may stay.
    read = saved(sweeps)
    assert read.approval.purges == set()
    report = applied(sweeps, read)
    assert (report.tally.evicted, report.tally.purged, report.excesses) == (1, 1, [])
    assert lying(sweeps) == "123"
    assert earlier not in sweeps.store.deleted
    assert sweeps.store.trash_contents(earlier) is not None


def test_what_is_due_in_the_trash_is_the_next_sweeps(sweeps: Sweeps) -> None:
    earlier = trash_one(sweeps)
    sweeps.limit("experiments", 4, 4)
    read = saved(sweeps)
    sweeps.wait(2 * DAY)
    assert applied(sweeps, read).tally.purged == 0
    assert sweeps.store.trash_contents(earlier) is not None
    assert sweeps.sweep().tally.purged == 1
    assert sweeps.store.trash_contents(earlier) is None


def test_what_is_approved_is_deleted_at_once_where_no_time_is_given(sweeps: Sweeps) -> None:
    earlier = trash_one(sweeps)
    sweeps.limit("experiments", 4, 4)
    report = applied(sweeps, saved(sweeps), replace(KEEP, retention=timedelta()))
    assert (report.tally.evicted, report.tally.purged) == (1, 1)
    assert sweeps.store.trash_contents(earlier) is not None


def test_what_an_earlier_sweep_has_claimed_is_the_next_sweeps(sweeps: Sweeps) -> None:
    sweeps.store.hook = killing("before trash")
    with pytest.raises(Killed):
        sweeps.sweep()
    sweeps.store.hook = silent
    assert {sweeps.checkpoint(name).state for name in "45"} == {"claimed"}
    sweeps.limit("experiments", 3, 3)
    read = saved(sweeps)
    report = applied(sweeps, read)
    assert (report.tally.evicted, lying(sweeps)) == (1, "1245")
    assert {sweeps.checkpoint(name).state for name in "45"} == {"claimed"}
    tally = sweeps.sweep().tally
    assert (tally.evicted + tally.cancelled, sweeps.state().usage.claimed_checkpoints) == (2, 0)


@pytest.mark.parametrize(
    "parameters",
    [PolicyParameters(), PolicyParameters(policy="expected-cost"), PolicyParameters(policy="random", seed=7)],
    ids=lambda one: one.policy,
)
def test_what_a_plan_is_applied_by_recomputes_from_the_log(database_url: str, parameters: PolicyParameters) -> None:
    create_schema(database_url)
    with sweeps_over(database_url) as sweeps:
        tell(sweeps)
        sweeps.wait(timedelta(minutes=2))
        read = saved(sweeps, parameters)
        sweeps.wait(timedelta(minutes=3))
        report = applied(sweeps, read)
        (started,) = [one.payload for one in sweeps.events(DEPLOYMENT_STREAM) if isinstance(one.payload, SweepStarted)]
        assert (started.plan_made_at, started.plan_sha256) == (read.plan.made_at, read.approval.digest)
        stream = whole_stream(sweeps.services, "x")
        decided = [one.payload for one in stream if isinstance(one.payload, EvictionDecided)]
        assert {one.sweep_id for one in decided} == {started.sweep_id} == {report.sweep_id}
        assert {(one.parameters, one.reason) for one in decided} >= {(parameters, "paused")}
        assert {one.planned_at for one in decided} == {read.plan.made_at}
        assert list(not_recomputed(stream, with_places=True)) == []


def test_what_a_killed_one_has_begun_is_told_and_left_to_a_sweep_without_a_plan(sweeps: Sweeps) -> None:
    sweeps.store.hook = killing("before trash")
    with pytest.raises(Killed):
        applied(sweeps, saved(sweeps))
    sweeps.store.hook = silent
    assert lying(sweeps) == "12345"
    sweeps.wait(timedelta(minutes=2))
    report = applied(sweeps, saved(sweeps))
    assert (report.sweep_id, report.left_open) == (None, 2)
    sweeps.limit("experiments", 3, 3)
    report = applied(sweeps, saved(sweeps))
    assert (report.tally.evicted, report.left_open, lying(sweeps)) == (1, 2, "1245")
    assert sweeps.sweep().left_open == 0
    assert lying(sweeps) == "12"
    assert applied(sweeps, saved(sweeps)).left_open == 0

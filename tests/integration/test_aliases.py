"""One place under two names is never evicted under one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quota.domain.events import CheckpointMissing, CheckpointSaved, ExperimentRegistered, TrialPaused, TrialStarted
from support import create_schema, services_over, tamper
from sweeps import AT_ONCE, KEEP, SIZE, Killed, Sweeps, killing, refusing, silent, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ELSEWHERE = "memory://resolved/2/"


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(2, high=9, low=9)
        yield ready


def saved(trial_id: str, uri: str) -> CheckpointSaved:
    return CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=SIZE, resource=1)


def resolve(sweeps: Sweeps, other: str = ELSEWHERE) -> None:
    """Let trial 2 go on under another name of its place, as a tuner does that was restarted with resolved paths."""
    sweeps.store.add_name(uri_of("2"), other)
    sweeps.resume("2")
    sweeps.send(saved("2", other), TrialPaused(trial_id="2", level=3, metric=0.5))
    sweeps.limit("experiments", 2, 2)


@pytest.mark.parametrize("other", [ELSEWHERE, "memory://store/link-to-2/", "memory://resolved/latest/"])
def test_a_trial_s_own_place_under_another_name_is_kept(sweeps: Sweeps, other: str) -> None:
    resolve(sweeps, other)
    report = sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None
    assert any(f"it is the same place as {other} of experiment x" in error for error in report.tally.errors)
    # The next best goes instead.
    assert sweeps.store.contents(uri_of("1")) is None


def test_once_the_old_name_is_given_up_the_place_is_like_any_other(sweeps: Sweeps) -> None:
    resolve(sweeps, "memory://store/link-to-2/")
    sweeps.send(CheckpointMissing(trial_id="2", uri="memory://store/link-to-2/"))
    sweeps.limit("experiments", 1, 1)
    report = sweeps.sweep(AT_ONCE)
    assert (report.tally.decided, report.tally.failed) == (1, 0)


def save_in_y(sweeps: Sweeps, uri: str) -> None:
    sweeps.experiment_id = "y"
    sweeps.send(
        ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9),
        TrialStarted(trial_id="7"),
        saved("7", uri),
    )
    sweeps.experiment_id = "x"


def test_what_may_be_its_trial_s_newest_behind_a_name_that_cannot_be_followed_is_kept(sweeps: Sweeps) -> None:
    resolve(sweeps)
    sweeps.store.hook = refusing("before place", ELSEWHERE)
    report = sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None
    assert any(f"its trial's checkpoint {ELSEWHERE} may be the same place" in error for error in report.tally.errors)
    # Other trials have nothing to do with it.
    assert sweeps.store.contents(uri_of("1")) is None


def test_a_name_that_can_be_followed_again_keeps_nothing_any_more(sweeps: Sweeps) -> None:
    sweeps.pause_more("3")
    sweeps.resume("2")
    sweeps.send(saved("2", ELSEWHERE), TrialPaused(trial_id="2", level=3, metric=0.5))
    tries: list[str] = []

    def refuse_once(step: str, uri: str) -> None:
        if (step, uri) == ("before place", ELSEWHERE):
            tries.append(uri)
            if len(tries) == 1:
                refusing(step)(step, uri)

    sweeps.store.hook = refuse_once
    sweeps.limit("experiments", 3, 3)
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is None


def test_a_name_of_another_experiment_that_cannot_be_followed_keeps_nothing(sweeps: Sweeps) -> None:
    save_in_y(sweeps, ELSEWHERE)
    sweeps.store.hook = refusing("before place", ELSEWHERE)
    sweeps.limit("experiments", 1, 1)
    assert sweeps.sweep(AT_ONCE).tally.failed == 0
    assert sweeps.store.contents(uri_of("2")) is None


def test_what_an_untrusted_experiment_has_of_a_place_is_kept(sweeps: Sweeps, database_url: str) -> None:
    sweeps.store.add_name(uri_of("2"), ELSEWHERE)
    save_in_y(sweeps, ELSEWHERE)
    sweeps.services.sweeper.sweep(["y"], AT_ONCE)
    with services_over(database_url, sweeps.clock, lambda _: sweeps.store) as elsewhere:
        sweeps.experiment_id = "y"
        elsewhere.recorder.append([sweeps.envelope(CheckpointMissing(trial_id="7", uri=ELSEWHERE))])
        sweeps.experiment_id = "x"
    tamper(sweeps.services, ["UPDATE events SET data = '[]' WHERE type = 'checkpoint_missing'"])
    sweeps.limit("experiments", 1, 1)
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None
    assert sweeps.store.contents(uri_of("1")) is None


def test_what_was_looked_at_is_compared_again_when_the_plan_is_made_anew(sweeps: Sweeps) -> None:
    listed: list[str] = []

    def link_meanwhile(step: str, uri: str) -> None:
        if step == "before manifest":
            listed.append(uri)
            if len(listed) == 2:
                sweeps.store.add_name(listed[0], ELSEWHERE)
                save_in_y(sweeps, ELSEWHERE)
                sweeps.store.remove_checkpoint(uri)

    sweeps.pause_more("3")
    sweeps.store.hook = link_meanwhile
    sweeps.limit("experiments", 1, 1)
    report = sweeps.sweep(AT_ONCE)
    assert report.tally.missing == [listed[1]]
    assert sweeps.store.contents(listed[0]) is not None


def test_what_lies_around_a_place_under_another_name_keeps_it(sweeps: Sweeps) -> None:
    sweeps.send(TrialStarted(trial_id="3"))
    sweeps.save("3", "/step-5")
    sweeps.send(TrialPaused(trial_id="3", level=1, metric=3.0))
    sweeps.store.add_name(uri_of("3"), ELSEWHERE)
    save_in_y(sweeps, ELSEWHERE)
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("3", "/step-5")) is not None
    assert sweeps.store.contents(uri_of("2")) is None


def test_a_link_to_the_store_s_root_keeps_nothing(sweeps: Sweeps) -> None:
    sweeps.store.add_name("memory://store/", ELSEWHERE)
    save_in_y(sweeps, ELSEWHERE)
    sweeps.limit("experiments", 1, 1)
    assert sweeps.sweep(AT_ONCE).tally.failed == 0
    assert sweeps.store.contents(uri_of("2")) is None


def test_a_trial_s_newest_is_followed_again_when_its_link_may_have_been_set_anew(sweeps: Sweeps) -> None:
    sweeps.resume("2")
    sweeps.send(saved("2", ELSEWHERE), TrialPaused(trial_id="2", level=3, metric=0.5))

    def link_once_followed(step: str, uri: str) -> None:
        if (step, uri) == ("before place", ELSEWHERE):
            sweeps.store.hook = link_at_the_next

    def link_at_the_next(step: str, uri: str) -> None:
        if (step, uri) == ("before place", uri_of("1")):
            sweeps.store.add_name(uri_of("2"), ELSEWHERE)

    sweeps.store.hook = link_once_followed
    sweeps.limit("experiments", 1, 1)
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None


@pytest.mark.parametrize("is_there", [True, False])
def test_the_place_of_another_experiment_under_another_name_is_kept(sweeps: Sweeps, *, is_there: bool) -> None:
    sweeps.store.add_name(uri_of("2"), ELSEWHERE)
    save_in_y(sweeps, ELSEWHERE)
    if not is_there:
        sweeps.experiment_id = "y"
        sweeps.send(CheckpointMissing(trial_id="7", uri=ELSEWHERE))
        sweeps.experiment_id = "x"
    sweeps.limit("experiments", 1, 1)
    sweeps.sweep(AT_ONCE)
    assert (sweeps.store.contents(uri_of("2")) is not None) == is_there
    assert (sweeps.store.contents(uri_of("1")) is not None) != is_there


def test_what_was_reported_under_another_name_since_it_was_claimed_is_kept(sweeps: Sweeps) -> None:
    sweeps.limit("experiments", 1, 1)
    sweeps.store.hook = killing("before trash")
    with pytest.raises(Killed):
        sweeps.sweep(KEEP)
    sweeps.store.hook = silent
    (claimed,) = [one for one in ("1", "2") if sweeps.checkpoint(one).state == "claimed"]
    sweeps.store.add_name(uri_of(claimed), ELSEWHERE)
    save_in_y(sweeps, ELSEWHERE)
    report = sweeps.sweep(AT_ONCE)
    assert any(f"it is the same place as {ELSEWHERE} of experiment y" in error for error in report.tally.errors)
    assert sweeps.store.contents(uri_of(claimed)) is not None


def test_what_only_ends_in_the_same_name_is_another_place(sweeps: Sweeps) -> None:
    save_in_y(sweeps, ELSEWHERE)
    sweeps.limit("experiments", 1, 1)
    assert sweeps.sweep(AT_ONCE).tally.failed == 0
    assert sweeps.store.contents(uri_of("2")) is None


@pytest.mark.parametrize("owner", ["2", "3"])
@pytest.mark.parametrize(("place", "inner"), [("memory://store/2/", "memory://link/2/step-5/")])
def test_what_lies_within_a_place_under_another_name_is_kept(
    sweeps: Sweeps, owner: str, place: str, inner: str
) -> None:
    sweeps.pause_more("3")
    sweeps.store.add_name(f"{place}step-5/", inner)
    sweeps.resume(owner)
    sweeps.send(saved(owner, inner), TrialPaused(trial_id=owner, level=3, metric=0.5))
    sweeps.limit("experiments", 1, 1)
    report = sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(place) is not None
    assert any(f"it is the same place as {inner}" in error for error in report.tally.errors)


def test_another_trial_s_place_under_a_name_that_ends_otherwise_is_kept(sweeps: Sweeps) -> None:
    best = "memory://store/best/"
    sweeps.store.add_name(uri_of("2"), best)
    save_in_y(sweeps, best)
    sweeps.limit("experiments", 1, 1)
    sweeps.sweep(AT_ONCE)
    assert sweeps.store.contents(uri_of("2")) is not None


def test_what_its_trial_saves_while_the_plan_is_listed_is_not_taken_along(sweeps: Sweeps) -> None:
    listed: list[str] = []

    def resolve_meanwhile(step: str, uri: str) -> None:
        if step != "before manifest":
            return
        listed.append(uri)
        if len(listed) == 2:
            trial_id = "2" if listed[0] == uri_of("2") else "3"
            sweeps.store.hook = silent
            sweeps.store.add_name(listed[0], ELSEWHERE)
            sweeps.resume(trial_id)
            sweeps.send(saved(trial_id, ELSEWHERE), TrialPaused(trial_id=trial_id, level=3, metric=0.5))

    sweeps.pause_more("3")
    sweeps.store.hook = resolve_meanwhile
    sweeps.limit("experiments", 1, 1)
    sweeps.sweep(AT_ONCE)
    assert len(set(listed)) == 2
    assert sweeps.store.contents(listed[0]) is not None
    assert sweeps.store.contents(listed[1]) is None


@pytest.mark.parametrize("left", ["nothing", "directories"])
def test_a_superseded_one_whose_successor_is_gone_from_the_disk_is_kept(sweeps: Sweeps, left: str) -> None:
    sweeps.resume("2")
    sweeps.save("2", "-later", resource=3)
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=0.5))
    sweeps.store.remove_checkpoint(uri_of("2", "-later"))
    if left == "directories":
        sweeps.store.add_checkpoint(uri_of("2", "-later"), {})
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(AT_ONCE)
    told = sweeps.resume("2", 3).checkpoint
    assert told is not None
    assert told.uri == uri_of("2")
    assert sweeps.store.contents(uri_of("2")) is not None


@pytest.mark.parametrize(("size_bytes", "is_kept"), [(SIZE - 1, True), (SIZE, False), (SIZE + 1, False)])
def test_a_superseded_one_whose_successor_has_lost_a_part_is_kept(
    sweeps: Sweeps, *, size_bytes: int, is_kept: bool
) -> None:
    """Less lies there than its trial reported, so the older one may be the last that is whole."""
    sweeps.resume("2")
    sweeps.save("2", "-later", resource=3)
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=0.5))
    sweeps.store.add_checkpoint(uri_of("2", "-later"), {"weights.bin": b"w" * size_bytes})
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(AT_ONCE)
    assert (sweeps.store.contents(uri_of("2")) is not None) == is_kept

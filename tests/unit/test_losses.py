"""What a resume had to do without is put down to the decision that took it."""

from __future__ import annotations

from folding import Story, uri_of
from quota.domain.events import CheckpointMissing
from quota.domain.experiment import Loss


def at_level_three(*, evict_older: bool) -> tuple[Story, str]:
    """Pause a trial at level 3 that has a checkpoint of level 1 too, and evict the newer one, or the older one."""
    story = Story()
    story.start("7")
    story.report("7", 1, 0.5)
    story.pause("7", place="one")
    story.resume("7")
    story.report("7", 3, 0.4)
    story.pause("7", level=3, place="three")
    decision_id = story.decide("7", "one" if evict_older else "three")
    story.trash(decision_id)
    story.purge(decision_id)
    return story, decision_id


def test_a_loss_is_what_the_survivor_does_not_have() -> None:
    story, decision_id = at_level_three(evict_older=False)
    story.resume("7", level=3)
    (loss,) = story.state.touched.losses
    pace = story.state.pace.median_seconds
    assert pace is not None
    expected = Loss(
        position=story.state.position,
        decision_id=decision_id,
        trial_id="7",
        lost_resource=2,
        lost_seconds=2 * pace,
    )
    assert loss == expected


def test_what_is_superseded_is_not_missed() -> None:
    story, _ = at_level_three(evict_older=True)
    story.resume("7", level=3)
    assert story.state.touched.losses == []


def test_what_is_missing_for_another_reason_is_nobodys_doing() -> None:
    story, decision_id = at_level_three(evict_older=True)
    story.add(CheckpointMissing(trial_id="7", uri=uri_of("7", "three")))
    story.resume("7", level=3)
    # All three units are to be done again, and two of them would be though the older one had been kept.
    (loss,) = story.state.touched.losses
    assert (loss.decision_id, loss.lost_resource) == (decision_id, 1)


def test_what_came_back_is_not_missed() -> None:
    story = Story()
    story.start("7")
    story.pause("7")
    decision_id = story.decide("7")
    story.trash(decision_id)
    story.restore(decision_id)
    story.resume("7")
    assert story.state.touched.losses == []

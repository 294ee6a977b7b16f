"""What became of each eviction, and what resumes had to do without for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from integration.views.by_hand import PURGED, REFUSED, REGISTERED, ask, decided, paused, tell
from quota.domain.events import (
    CheckpointPurged,
    CheckpointRestored,
    CheckpointTrashed,
    EvictionCancelled,
    PurgeDecided,
    TrialReported,
    TrialResumed,
    TrialStopped,
)

if TYPE_CHECKING:
    from quota.bootstrap import Services

OUTCOMES = "SELECT trial_id, fate, resumes_without, lost_resource FROM eviction_outcomes ORDER BY trial_id"


def evict(services: Services, trial_id: str, decision_id: str) -> None:
    """Let a trial pause, and its checkpoint go to the trash."""
    tell(services, "one", *paused(trial_id, 0.5))
    saved = ask(services, f"SELECT saved_position FROM checkpoint_inventory WHERE trial_id = '{trial_id}'")
    tell(
        services,
        "one",
        decided(decision_id, trial_id, saved[0]["saved_position"], reason="paused", place=1),
        CheckpointTrashed(decision_id=decision_id, trial_id=trial_id),
    )


def test_what_is_gone_for_good_costs_what_has_to_be_done_again(services: Services) -> None:
    tell(services, "one", REGISTERED)
    evict(services, "a", PURGED)
    gone = {"decision_id": PURGED, "trial_id": "a"}
    tell(services, "one", PurgeDecided(**gone), CheckpointPurged(**gone, freed_bytes=11))
    assert ask(services, OUTCOMES)[0]["fate"] == "not needed so far"
    # Two trials have reported by then, two seconds a unit of resource.
    tell(services, "one", (2, TrialResumed(trial_id="a", level=1)))
    (one,) = ask(services, OUTCOMES)
    assert (one["fate"], one["resumes_without"], one["lost_resource"]) == ("resumed without", 1, 1)
    tell(services, "one", (4, TrialReported(trial_id="a", resource=1, metric=0.1)), TrialStopped(trial_id="a"))
    assert ask(services, OUTCOMES) == [one]


def test_what_comes_back_or_never_went_costs_nothing(services: Services) -> None:
    tell(services, "one", REGISTERED)
    evict(services, "a", PURGED)
    tell(services, "one", CheckpointRestored(decision_id=PURGED, trial_id="a"), TrialResumed(trial_id="a", level=1))
    evict(services, "b", REFUSED)
    tell(services, "one", TrialStopped(trial_id="b"))
    third = "01990000-0000-7000-8000-0000000000cc"
    tell(services, "one", *paused("c", 0.5))
    saved = ask(services, "SELECT saved_position FROM checkpoint_inventory WHERE trial_id = 'c'")[0]["saved_position"]
    tell(
        services,
        "one",
        decided(third, "c", saved, reason="paused", place=1),
        EvictionCancelled(decision_id=third, trial_id="c", reason="pinned"),
    )
    assert [(one["trial_id"], one["fate"], one["lost_resource"]) for one in ask(services, OUTCOMES)] == [
        ("a", "restored", 0),
        ("b", "never needed", 0),
        ("c", "not carried out", 0),
    ]

"""BAD_INPUT, State."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bad_input import REGISTERED, assert_refused, contents, event, experiment, send
from quota.domain.events import LimitSet, PolicyParameters
from quota.errors import StateRefused
from quota.projections.tables import decisions
from quota.services.sweep_order import SweepOrder
from quota.testing.memory_store import MemoryStore

if TYPE_CHECKING:
    from quota.bootstrap import Services

ROOT = "memory://store/"
PAUSED = {"trial_id": "7", "level": 1, "metric": 0.5}


def saved(trial_id: str, uri: str) -> dict[str, Any]:
    return event("checkpoint_saved", {"trial_id": trial_id, "uri": uri, "size_bytes": 1, "resource": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "max"}, "field `mode` is 'max': the experiment is registered already, with 'min'"),
        ({"rung_levels": [1, 3, 8]}, ("field `rung_levels` is (1, 3, 8): the experiment is registered already, "
         "with (1, 3, 9)")),
        ({"promotion_quantiles": [0.5, 0.5, 0.4]}, ("field `promotion_quantiles` is (0.5, 0.5, 0.4): "
         "the experiment is registered already, with (0.5, 0.5, 0.5)")),
        ({"max_resource": 28}, "field `max_resource` is 28: the experiment is registered already, with 27"),
        ({"max_wallclock_seconds": None}, ("field `max_wallclock_seconds` is None: "
         "the experiment is registered already, with 600.0")),
        ({"labels": {"team": "vision"}}, ("field `labels` is {'team': 'vision'}: "
         "the experiment is registered already, with {}")),
    ],
)  # fmt: skip
def test_second_registration_with_other_content(sqlite_url: str, change: dict[str, Any], message: str) -> None:
    with experiment(sqlite_url) as services:
        assert_refused(
            services,
            event("experiment_registered", REGISTERED | change),
            error=StateRefused,
            message=f"line 1, event ID (experiment_registered): {message}; choose another experiment_id",
        )


def test_second_registration_with_the_same_content_changes_nothing(database_url: str) -> None:
    with experiment(database_url) as services:
        assert send(services, event("experiment_registered", REGISTERED)) == 1
        services.queries.catch_up(["one"])
        assert services.queries.ask("SELECT reason FROM flags") == [{"reason": "registered_before"}]


def test_what_does_not_fit_what_the_trial_does(database_url: str) -> None:
    with experiment(database_url) as services:
        say = "line 1, event ID"
        ended = {"trial_id": "8"}
        send(services, event("trial_started", ended), event("trial_stopped", ended))
        for type_name, data, message in (
            (
                "trial_started",
                {"trial_id": "7"},
                "the trial has started already and is running; a trial starts once, later it is resumed",
            ),
            (
                "trial_started",
                ended,
                "the trial has started already and is stopped; a trial starts once, later it is resumed",
            ),
            ("trial_paused", PAUSED | ended, "only a running trial can be paused, this one is stopped"),
            ("trial_resumed", ended | {"level": 1}, "only a paused trial can be resumed, this one is stopped"),
            ("trial_resumed", {"trial_id": "7", "level": 1}, "only a paused trial can be resumed, this one is running"),
        ):
            assert_refused(
                services,
                event(type_name, data),
                error=StateRefused,
                message=f"{say} ({type_name}): field `trial_id` is '{data['trial_id']}': {message}",
            )
        send(services, event("trial_started", {"trial_id": "9"}), event("trial_paused", PAUSED | {"trial_id": "9"}))
        for type_name, data, field, message in (
            ("trial_paused", PAUSED | {"trial_id": "9"}, "trial_id", ("only a running trial can be paused, this one is "
             "paused")),
            ("trial_resumed", {"trial_id": "9", "level": 3}, "level", "the trial is paused at level 1"),
        ):  # fmt: skip
            value = data[field]
            assert_refused(
                services,
                event(type_name, data),
                error=StateRefused,
                message=f"{say} ({type_name}): field `{field}` is {value!r}: {message}",
            )


def test_checkpoint_where_another_lies(database_url: str) -> None:
    with experiment(database_url) as services:
        send(
            services,
            event("trial_started", {"trial_id": "8"}),
            event("experiment_registered", REGISTERED, experiment_id="two"),
            event("trial_started", {"trial_id": "1"}, experiment_id="two"),
            saved("7", "file:///scratch/a/trial-1"),
        )
        say = "line 1, event ID (checkpoint_saved): field `uri` is"
        assert_refused(
            services,
            saved("8", "file:///scratch/a/trial-1"),
            error=StateRefused,
            message=f"{say} 'file:///scratch/a/trial-1': this location belongs to trial 7; give each trial its own",
        )
        taken = "it overlaps file:///scratch/a/trial-1/, which belongs to trial 7 of experiment one; "
        advice = "evicting one would take the other, so give each trial its own place"
        for uri in ("file:///scratch/a", "file:///scratch/a/trial-1/epoch-2", "file:///scratch"):
            for sent in (saved("8", uri), saved("7", uri), saved("1", uri) | {"experiment_id": "two"}):
                assert_refused(services, sent, error=StateRefused, message=f"{say} '{uri}': {taken}{advice}")
        sent = saved("1", "file:///scratch/a/trial-1") | {"experiment_id": "two"}
        assert_refused(
            services, sent, error=StateRefused, message=f"{say} 'file:///scratch/a/trial-1': {taken}{advice}"
        )
        # A name that merely begins like another is no overlap.
        assert send(services, saved("8", "file:///scratch/a/trial-10")) == 1
        two = saved("7", "file:///scratch/b"), saved("8", "file:///scratch/b/c")
        assert_refused(
            services,
            *two,
            error=StateRefused,
            message="line 2, event ID (checkpoint_saved): field `uri` is 'file:///scratch/b/c': it overlaps "
            f"file:///scratch/b/, which belongs to trial 7 of experiment one; {advice}",
        )


def evicted(services: Services, store: MemoryStore, retention: timedelta) -> str:
    """Evict trial 7's checkpoint; returns the decision's id."""
    uri = f"{ROOT}one/7/"
    store.add_checkpoint(uri, {"weights": b"w"})
    send(services, saved("7", uri), event("trial_paused", PAUSED), event("trial_started", {"trial_id": "8"}))
    services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=1, low=1))
    report = services.sweeper.sweep(["one"], SweepOrder(PolicyParameters(), retention))
    assert report.tally.evicted == 1
    with services.database.read() as connection:
        return str(connection.execute(decisions.select()).one().decision_id)


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(ROOT)


def test_pin_of_what_is_gone(database_url: str, memory: MemoryStore) -> None:
    with experiment(database_url, memory) as services:
        services.administration.add_store(ROOT)
        evicted(services, memory, timedelta(hours=1))
        uri = f"{ROOT}one/7/"
        pin = event("checkpoint_pinned", {"trial_id": "7", "uri": uri})
        assert_refused(
            services,
            pin,
            error=StateRefused,
            message=f"line 1, event ID (checkpoint_pinned): field `uri` is '{uri}': "
            "the checkpoint is trashed, it cannot be pinned; restore it first (`ckpt-quota restore`)",
        )
        assert_refused(
            services,
            event("checkpoint_pinned", {"trial_id": "8", "uri": uri}),
            error=StateRefused,
            message=f"line 1, event ID (checkpoint_pinned): field `uri` is '{uri}': "
            "trial 8 has no checkpoint there; `ckpt-quota experiment show` lists them",
        )


def test_restore_of_what_is_purged(database_url: str, memory: MemoryStore) -> None:
    with experiment(database_url, memory) as services:
        services.administration.add_store(ROOT)
        decision_id = evicted(services, memory, timedelta())
        before = contents(services)
        with pytest.raises(StateRefused) as caught:
            services.restorer.restore(decision_id)
        assert str(caught.value) == (
            f"decision {decision_id}: field `outcome` is 'purged': only what is in the trash can be restored; "
            "`ckpt-quota evictions --outcome trashed` lists that"
        )
        assert contents(services) == before


def test_start_and_resume_in_a_finished_experiment(database_url: str) -> None:
    with experiment(database_url) as services:
        send(services, event("trial_paused", PAUSED), event("experiment_finished"))
        for type_name, data in (
            ("trial_started", {"trial_id": "8"}),
            ("trial_resumed", {"trial_id": "7", "level": 1}),
        ):
            assert_refused(
                services,
                event(type_name, data),
                error=StateRefused,
                message=f"line 1, event ID ({type_name}): field `trial_id` is '{data['trial_id']}': "
                "the experiment is finished, none of its trials can run; register a new experiment",
            )


def test_restore_where_a_later_checkpoint_lies(database_url: str, memory: MemoryStore) -> None:
    uri = f"{ROOT}one/7/"
    with experiment(database_url, memory) as services:
        services.administration.add_store(ROOT)
        decision_id = evicted(services, memory, timedelta(hours=1))
        memory.add_checkpoint(uri, {"weights": b"later"})
        send(services, event("trial_resumed", {"trial_id": "7", "level": 1}), saved("7", uri))
        before = contents(services)
        with pytest.raises(StateRefused) as caught:
            services.restorer.restore(decision_id)
        assert str(caught.value) == (
            f"decision {decision_id}: field `uri` is '{uri}': the trial has written a later checkpoint there since; "
            "the one in the trash would pass for it"
        )
        assert contents(services) == before

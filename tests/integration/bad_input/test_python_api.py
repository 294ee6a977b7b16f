"""Events made in Python, whose classes check nothing: they are refused as strictly as those that come as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import quota
from bad_input import GOOD, Trial7, refused, running_trial
from quota.client import ExperimentHandle, as_uri
from quota.domain.events import (
    CheckpointSaved,
    Event,
    EvictionCancelled,
    ExperimentRegistered,
    LimitSet,
    StoreAdded,
    TrialFailed,
    TrialPaused,
    TrialResumed,
    TrialStarted,
)
from quota.errors import BadInput, IdentityRefused, NumberRefused, PathRefused, StateRefused, TimeRefused
from support import START

CYCLE: dict[str, Any] = {}
CYCLE["again"] = CYCLE
LOCAL = datetime(2026, 1, 1)  # noqa: DTZ001 - that it has no zone is the point


def refused_payloads() -> list[tuple[type[BadInput], Event, str]]:
    """Give payloads, and what is said of each."""
    anything: Any = object()
    return [
        (IdentityRefused, TrialStarted(trial_id=_any(7)), "field `trial_id` is 7: expected `str`, got `int`"),
        (IdentityRefused, TrialStarted(trial_id=_any(None)), "field `trial_id` is None: expected `str`, got `null`"),
        (IdentityRefused, TrialStarted(trial_id=_any(b"8")), "field `trial_id` is b'8': expected `str`, got `bytes`"),
        (IdentityRefused, TrialStarted(trial_id=anything), "field `trial_id` is <object object"),
        (IdentityRefused, TrialStarted(trial_id="a\0"), "field `trial_id` is 'a\\x00': character 2 (U+0000) is a"),
        (IdentityRefused, TrialStarted(trial_id="\ud800"), "(U+D800) is a lone surrogate; remove it"),
        (IdentityRefused, TrialStarted(trial_id="8", config=_any(None)), "field `config` is None: expected `object`"),
        (IdentityRefused, TrialStarted(trial_id="8", config={"a": anything}), "field `config.a` is "),
        (IdentityRefused, TrialStarted(trial_id="8", config={"a": [{2: 3}]}), "field `config.a[0].2` is 2: names are"),
        (IdentityRefused, TrialStarted(trial_id="8", config=_any({1: 2})), "field `config` is {1: 2}: expected `str`"),
        (IdentityRefused, TrialStarted(trial_id="8", config=CYCLE), "field `data` is '…': it is nested too deeply"),
        (IdentityRefused, TrialStarted(trial_id="8", config={"\ud800": 1}), "(U+D800) is a lone surrogate"),
        (IdentityRefused, TrialFailed(trial_id="7", error="a\0b"), "field `error` is 'a\\x00b': character 2 (U+0000)"),
        (IdentityRefused, TrialFailed(trial_id="7", error="\udfff"), "character 1 (U+DFFF)"),
        (IdentityRefused, TrialFailed(trial_id="7", error="x" * 70_000), "an event's data has at most 65536 bytes"),
        (PathRefused, CheckpointSaved(trial_id="7", uri="7", size_bytes=1, resource=1), "is '7': a location is an"),
        (IdentityRefused, _registered(labels={"team": "a\0"}), "field `labels.team` is 'a\\x00'"),
        (IdentityRefused, _registered(labels={"\u202e": "a"}), "is '\\u202e': character 1 (U+202E) is an invisible"),
        (IdentityRefused, _registered(mode="best"), "field `mode` is 'best': invalid enum value 'best'"),
        (NumberRefused, _registered(rung_levels=("1",)), "field `rung_levels[0]` is '1': expected `int`, got `str`"),
        (IdentityRefused, EvictionCancelled(decision_id="1", trial_id="7", reason="pinned"), "a recorder may not send"),
        (IdentityRefused, StoreAdded(uri="file:///", store_id="1"), "`type` is 'store_added': a recorder may not send"),
    ]


def _any(value: object) -> Any:  # noqa: ANN401
    return value


def _registered(**changes: Any) -> ExperimentRegistered:  # noqa: ANN401
    good: dict[str, Any] = {"mode": "min", "rung_levels": (1,), "promotion_quantiles": (0.5,), "max_resource": 3}
    return ExperimentRegistered(**(good | changes))


def test_payloads(database_url: str) -> None:
    with running_trial(database_url) as trial:
        for kind, payload, said in refused_payloads():
            trial.refuses_event(kind, payload, said)


def test_envelopes(database_url: str) -> None:
    changes: list[tuple[type[BadInput], dict[str, Any], str]] = [
        (IdentityRefused, {"event_id": None}, "field `event_id` is None: this must be text"),
        (IdentityRefused, {"event_id": "7"}, "field `event_id` is '7': an event id is a UUID"),
        (IdentityRefused, {"event_id": "\ud800"}, "field `event_id` is '\\ud800': an event id is a UUID"),
        (IdentityRefused, {"experiment_id": 7}, "field `experiment_id` is 7: this must be text"),
        (IdentityRefused, {"experiment_id": "_deployment"}, "this name is reserved; choose another"),
        (IdentityRefused, {"experiment_id": "two"}, "no such experiment; register it first"),
        (IdentityRefused, {"actor": None}, "field `actor` is None: this must be text"),
        (IdentityRefused, {"actor": ""}, "field `actor` is '': an id must not be empty or blank"),
        (IdentityRefused, {"actor": "me\0"}, "field `actor` is 'me\\x00': character 3 (U+0000) is a control"),
        (IdentityRefused, {"actor": "me\ud800"}, "field `actor` is 'me\\ud800': character 3 (U+D800) is a lone"),
        (TimeRefused, {"occurred_at": LOCAL}, "is '2026-01-01 00:00:00': it has no zone; give an aware datetime"),
        (TimeRefused, {"occurred_at": "2026-01-01T00:00:00Z"}, "field `occurred_at` is '2026-01-01T00:00:00Z'"),
        (TimeRefused, {"occurred_at": None}, "field `occurred_at` is 'None'"),
    ]
    with running_trial(database_url) as trial:
        for kind, change, said in changes:
            bad = msgspec.structs.replace(trial.good(), **change)

            def send(trial: Trial7 = trial, bad: Any = bad) -> object:  # noqa: ANN401
                return trial.services.recorder.append([trial.good(), bad])

            trial.refuses(kind, send, "event ", "(trial_reported", said)


def test_resumes_are_checked_as_all_events_are(database_url: str) -> None:
    yes: Any = True
    with running_trial(database_url) as trial:
        resume = trial.handle.resume_trial
        trial.refuses(StateRefused, lambda: resume("7", level=1), "field `trial_id` is '7': only a paused trial")
        trial.handle.record(TrialPaused(trial_id="7", level=1, metric=0.5), START)
        trial.refuses(NumberRefused, lambda: resume("7", level=yes), "field `level` is True: expected `int`")
        trial.refuses(StateRefused, lambda: resume("7", level=3), "field `level` is 3: the trial is paused at level 1")
        trial.refuses(IdentityRefused, lambda: resume("8", level=1), "field `trial_id` is '8'", "no such trial")
        trial.refuses(IdentityRefused, lambda: resume(_any(7), level=1), "field `trial_id` is 7: expected `str`")
        trial.refuses(TimeRefused, lambda: resume("7", level=1, occurred_at=LOCAL), "it has no zone")
        event = trial.handle.event(TrialResumed(trial_id="7", level=1), START)
        first, again = (trial.services.recorder.resume_trial(event) for _ in range(2))
        assert (first.receipt.stored_before, again.receipt.stored_before) == (False, True)
        assert first.receipt.position == again.receipt.position


def test_handles(database_url: str) -> None:
    with running_trial(database_url) as trial:
        saved = trial.handle.checkpoint_saved
        for location, said in [
            ("checkpoints/7", "is 'checkpoints/7': a location is an absolute URI"),
            ("file:///a//b", "it has an empty component"),
            ("file:///a/../b", "`.` and `..` are not followed"),
            ("/a/../b", "`.` and `..` are not followed"),
            ("/a/\0", "NUL"),
        ]:

            def save(location: str = location) -> object:
                return saved("7", location=location, size_bytes=1, resource=1)

            trial.refuses(PathRefused, save, "checkpoint_saved of trial 7 of experiment one: field `uri` is ", said)
        other = ExperimentHandle(trial.services, "tester", "e\u0301")
        trial.refuses(IdentityRefused, lambda: other.record(_registered()), "normalise it (NFC)")
        assert as_uri("/a/b") == as_uri(Path("/a/b")) == "file:///a/b"


@pytest.mark.parametrize("call", ["checkpoint_saved", "checkpoint_missing", "checkpoint_pinned", "checkpoint_unpinned"])
def test_paths_that_are_relative(sqlite_url: str, call: str) -> None:
    more = {"size_bytes": 1, "resource": 1} if call == "checkpoint_saved" else {}
    with running_trial(sqlite_url) as trial:
        for path in ("trial-1", "../trial-1", "."):

            def tell(path: str = path) -> object:
                return getattr(trial.handle, call)("7", location=Path(path), **more)

            said = f"checkpoint: field `location` is {path!r}: a path is absolute, e.g. /scratch/hpo/trial-1; write it"
            trial.refuses(PathRefused, tell, said)


@pytest.mark.parametrize("scope", ["", "trial:7", "experiment:", "experiment:_deployment", "experiment:a\0", "\ud800"])
def test_scopes_of_limits(sqlite_url: str, scope: str) -> None:
    with running_trial(sqlite_url) as trial:
        limit = LimitSet(scope=scope, measure="checkpoints", high=3, low=3)
        refused(IdentityRefused, lambda: trial.services.administration.set_limit(limit), "field `scope` is ")
        other = LimitSet(scope="experiments", measure=_any("files"), high=3, low=3)
        refused(IdentityRefused, lambda: trial.services.administration.set_limit(other), "field `measure` is 'files'")
        assert trial.services.administration.look().limits == {}


def test_what_these_tests_change_is_good(database_url: str) -> None:
    with running_trial(database_url) as trial:
        assert trial.handle.record(GOOD, datetime.now(UTC)).position == 3


def test_what_is_published_can_be_imported() -> None:
    for name in quota.__all__:
        assert getattr(quota, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = quota.nothing

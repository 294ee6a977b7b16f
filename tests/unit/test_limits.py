"""Limits, reserves and pins: what is refused, what follows from the events, and which limit holds for what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from quota.domain.deployment import DeploymentState, fold_deployment
from quota.domain.events import (
    Event,
    LimitMeasure,
    LimitRemoved,
    LimitSet,
    RecordedEvent,
    ReserveRemoved,
    ReserveSet,
    ScopePinned,
    ScopeUnpinned,
    StoreAdded,
)
from quota.domain.limits import Limit, Reserve, ScopePin, effective_limits, is_pinned_by_scope
from quota.domain.space import Space

START = datetime(2026, 11, 23, 15, tzinfo=UTC)
DISK = "store:file:///scratch"


def folded(*payloads: Event) -> DeploymentState:
    state = DeploymentState()
    for position, payload in enumerate(payloads, start=1):
        at = START + timedelta(seconds=position)
        event_id = f"00000000-0000-0000-0000-{position:012}"
        envelope = {"event_id": event_id, "experiment_id": "_deployment", "position": position, "actor": "me@here"}
        fold_deployment(state, RecordedEvent(**envelope, occurred_at=at, recorded_at=at, payload=payload))
    return state


def limit(scope: str, high: int, low: int | None = None, measure: LimitMeasure = "checkpoints") -> Limit:
    return Limit(scope, measure, high, high if low is None else low, START, "me@here")


@pytest.mark.parametrize(
    ("event", "field", "said"),
    [
        (LimitSet(scope="a", measure="bytes", high=2, low=1), "scope", "a scope is one of"),
        (
            LimitSet(scope="deployment", measure="bytes", high=1, low=2),
            "low",
            "must not be above the high one, which is 1",
        ),
        (LimitSet(scope="deployment", measure="checkpoints", high=2**60, low=1), "high", "<= 9007199254740992"),
        (
            LimitSet(scope="deployment", measure="free_bytes", high=1, low=1),
            "scope",
            "a limit on free space is for `store:",
        ),
        (LimitSet(scope="label:a=b", measure="free_percent", high=1, low=1), "scope", "is for `store:<uri>`"),
        (
            LimitSet(scope=DISK, measure="free_bytes", high=2, low=1),
            "low",
            "must not be below what has to stay free, which is 2",
        ),
        (LimitSet(scope=DISK, measure="free_percent", high=100, low=100), "high", "at most 99 per cent"),
        (LimitSet(scope=DISK, measure="free_percent", high=99, low=100), "low", "at most 99 per cent"),
        (ReserveSet(scope="deployment", measure="bytes", amount=1), "scope", "a reserve is for `experiment:<id>` or"),
        (ReserveSet(scope="label:a=b", measure="checkpoints", amount=2**60), "amount", "at most 9007199254740992"),
        (ScopePinned(scope="experiments"), "scope", "a pin is for `experiment:<id>` or `label:"),
        (ScopePinned(scope="label:keep"), "scope", "a label is written"),
    ],
)
def test_what_is_refused(event: Event, field: str, said: str) -> None:
    refusal = event.refusal()
    assert refusal is not None
    assert refusal.field == field
    assert refusal.value == getattr(event, field)
    assert said in refusal.reason


@pytest.mark.parametrize(
    "event",
    [
        LimitSet(scope="deployment", measure="bytes", high=2**63 - 1, low=1),
        LimitSet(scope=DISK, measure="free_bytes", high=1, low=2**63 - 1),
        LimitSet(scope=DISK, measure="free_percent", high=1, low=99),
        ReserveSet(scope="label:a=b", measure="bytes", amount=2**63 - 1),
        ScopePinned(scope="deployment"),
        ScopePinned(scope=DISK),
    ],
)
def test_what_is_accepted(event: Event) -> None:
    assert event.refusal() is None
    assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event


def test_limits_reserves_and_pins_are_set_replaced_and_removed() -> None:
    state = folded(
        LimitSet(scope="deployment", measure="bytes", high=9, low=8),
        LimitSet(scope="deployment", measure="bytes", high=7, low=6),
        LimitSet(scope="deployment", measure="checkpoints", high=3, low=3),
        LimitRemoved(scope="deployment", measure="checkpoints"),
        ReserveSet(scope="label:a=b", measure="checkpoints", amount=2),
        ReserveSet(scope="label:a=b", measure="checkpoints", amount=4),
        ReserveSet(scope="label:a=b", measure="bytes", amount=5),
        ReserveRemoved(scope="label:a=b", measure="bytes"),
        ScopePinned(scope="label:keep=yes"),
        ScopePinned(scope=DISK),
        ScopeUnpinned(scope=DISK),
    )
    at = [START + timedelta(seconds=second) for second in range(20)]
    assert state.limits == {("deployment", "bytes"): Limit("deployment", "bytes", 7, 6, at[2], "me@here")}
    assert state.reserves == {("label:a=b", "checkpoints"): Reserve("label:a=b", "checkpoints", 4, at[6], "me@here")}
    assert state.pins == {"label:keep=yes": ScopePin("label:keep=yes", at[9], "me@here")}
    assert state.touched_limits == {("deployment", "bytes"), ("deployment", "checkpoints")}
    assert state.touched_reserves == {("label:a=b", "checkpoints"), ("label:a=b", "bytes")}
    assert state.touched_pins == {"label:keep=yes", DISK}
    assert state.position == 11


def test_a_limit_on_what_is_used_is_exceeded_above_its_high_watermark() -> None:
    assert [limit("deployment", 5, 3, "bytes").is_exceeded(used) for used in (4, 5, 6)] == [False, False, True]


def test_a_limit_on_what_is_free_is_exceeded_below_it() -> None:
    def space(free_bytes: int) -> Space:
        return Space(file_system="1", total_bytes=1_001, free_bytes=free_bytes)

    by_bytes, by_percent = limit(DISK, 300, 400, "free_bytes"), limit(DISK, 30, 40, "free_percent")
    assert [by_bytes.is_exceeded(0, space(free)) for free in (299, 300)] == [True, False]
    # 300.3 bytes have to stay free: that are 301.
    assert [by_percent.is_exceeded(0, space(free)) for free in (300, 301)] == [True, False]
    assert (by_percent.least_free_bytes(space(0)), by_percent.wanted_free_bytes(space(0))) == (301, 401)
    assert (by_bytes.least_free_bytes(space(0)), by_bytes.wanted_free_bytes(space(0))) == (300, 400)
    assert not by_percent.is_exceeded(10**9)


def test_limits_take_effect_innermost_first_and_each_experiment_has_one_of_its_own() -> None:
    limits = [
        limit("deployment", 50),
        limit("label:team=vision", 20),
        limit("experiments", 10),
        limit("experiments", 10, measure="bytes"),
        limit("experiment:b", 3),
    ]
    found = [(one.scope.text, one.limit.measure, one.limit.high) for one in effective_limits(limits, ["c", "b", "a"])]
    assert found == [
        ("experiment:b", "checkpoints", 3),
        ("experiment:a", "bytes", 10),
        ("experiment:b", "bytes", 10),
        ("experiment:c", "bytes", 10),
        ("experiment:a", "checkpoints", 10),
        ("experiment:c", "checkpoints", 10),
        ("label:team=vision", "checkpoints", 20),
        ("deployment", "checkpoints", 50),
    ]


def test_a_limit_of_a_gone_experiment_stays_and_harms_nobody() -> None:
    assert [one.scope.text for one in effective_limits([limit("experiment:gone", 3)], [])] == ["experiment:gone"]


def test_what_is_pinned_by_scope() -> None:
    pins = folded(ScopePinned(scope="label:keep=yes"), ScopePinned(scope=DISK)).pinned_scopes
    assert is_pinned_by_scope(pins, "a", {"keep": "yes"}, "s3://bucket/a/")
    assert is_pinned_by_scope(pins, "a", {}, "file:///scratch/a")
    assert not is_pinned_by_scope(pins, "a", {"keep": "no"}, "file:///scratch2/a")


def test_the_store_around_a_place_is_the_innermost_or_that_very_one() -> None:
    ids = ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"]
    stores = [StoreAdded(uri=uri, store_id=one) for uri, one in zip(("file:///a", "file:///a/b"), ids, strict=True)]
    state = folded(*stores)
    found = [
        getattr(state.store_around(uri), "uri", None)
        for uri in ("file:///a", "file:///a/b", "file:///a/b/c", "file:///")
    ]
    assert found == ["file:///a", "file:///a/b", "file:///a/b", None]

"""What is written to the log is read back as it was, by this version and by later ones."""

from __future__ import annotations

import json
import math
from datetime import UTC
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from folding import plain
from quota.domain.events import (
    EVENT_TYPES,
    Event,
    PolicyParameters,
    TrialPaused,
    TrialReported,
    TrialStarted,
    TrialStopped,
)
from quota.domain.manifest import Manifest, ManifestEntry
from quota.errors import LogCorrupt
from quota.eventlog.codec import Codec, encode

IDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20).map("x{}".format)
URIS = st.from_regex(r"memory://store/[a-z0-9]{1,8}/[a-z0-9]{1,8}/", fullmatch=True)
NUMBERS = st.integers(1, 2**53)
FRACTIONS = st.floats(0.001, 0.999)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
MANIFESTS = st.lists(st.builds(ManifestEntry, path=IDS, size_bytes=st.integers(0, 2**53), version=IDS), max_size=4).map(
    Manifest.of
)
PARAMETERS = st.builds(
    PolicyParameters,
    policy=st.sampled_from(["syne-tune", "expected-cost", "by_level"]),
    approx_steps=st.integers(1, 1_000),
    prior_mean=FRACTIONS,
    prior_size=st.floats(0.1, 1e6),
    min_data_at_rung=st.integers(0, 2**53),
    keep_completed=st.integers(0, 2**53),
    min_age_seconds=st.floats(0, 1e9),
    finished_retention_seconds=st.floats(0, 1e9),
)
LEVELS = st.lists(NUMBERS.filter(lambda level: level < 2**53), min_size=1, max_size=5, unique=True).map(
    lambda levels: tuple(sorted(levels))
)
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "uri": URIS,
    "metric": st.floats(),
    "manifest": MANIFESTS,
    "parameters": PARAMETERS,
    "labels": st.dictionaries(IDS, IDS, max_size=3),
    "config": st.dictionaries(IDS, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | IDS, max_size=3),
    "max_wallclock_seconds": st.none() | st.floats(0.1, 1e9),
    "scope": IDS.map("experiment:{}".format) | st.just("experiments"),
    "arrivals_better": st.none() | st.lists(FRACTIONS, max_size=3).map(tuple),
    "exceeded": st.lists(IDS, max_size=3).map(tuple),
    "errors": st.lists(IDS, max_size=3).map(tuple),
    "high": st.integers(100, 200),
    "low": st.integers(1, 100),
    "until": st.datetimes(timezones=st.just(UTC)),
    "plan_made_at": st.none() | st.datetimes(timezones=st.just(UTC)),
    "planned_at": st.none() | st.datetimes(timezones=st.just(UTC)),
}


def _values(name: str, kind: object) -> st.SearchStrategy[Any]:
    if name in BY_NAME:
        return BY_NAME[name]
    text = str(kind)
    if "Literal" in text:
        return st.from_type(kind)  # pyright: ignore[reportArgumentType] - a special form, which Hypothesis takes
    if "int" in text:
        return NUMBERS | st.none() if "None" in text else NUMBERS
    if "float" in text:
        return FINITE | st.none() if "None" in text else FRACTIONS
    return IDS


@st.composite
def events(draw: st.DrawFn, cls: type[Event]) -> Event:
    chosen = {
        one.encode_name: draw(_values(one.encode_name, one.type))
        for one in msgspec.structs.fields(cls)
        if one.encode_name not in {"rung_levels", "promotion_quantiles", "max_resource"}
    }
    if "rung_levels" in cls.__struct_fields__:
        levels = draw(LEVELS)
        quantiles = tuple(draw(st.lists(FRACTIONS, min_size=len(levels), max_size=len(levels))))
        chosen |= {"rung_levels": levels, "promotion_quantiles": quantiles, "max_resource": levels[-1] + 1}
    return cls(**chosen)


@pytest.mark.parametrize("type_name", sorted(EVENT_TYPES))
@given(data=st.data())
def test_each_event_is_read_back_as_it_was_written(type_name: str, data: st.DataObject) -> None:
    payload = data.draw(events(EVENT_TYPES[type_name]))
    text = encode(payload)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    decoded = Codec().decode(type_name, 1, text)
    assert type(decoded) is type(payload)
    assert plain(msgspec.to_builtins(decoded)) == plain(msgspec.to_builtins(payload))
    assert encode(decoded) == text


@pytest.mark.parametrize(("metric", "name"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_a_metric_that_json_has_no_number_for_is_written_as_text(metric: float, name: str) -> None:
    text = encode(TrialReported(trial_id="1", resource=3, metric=metric))
    assert json.loads(text) == {"trial_id": "1", "resource": 3, "metric": name}
    decoded = Codec().decode("trial_reported", 1, text)
    assert isinstance(decoded, TrialReported)
    assert str(decoded.metric) == str(metric)


def test_equal_events_have_equal_text_whatever_order_their_mappings_have() -> None:
    orders = ("ab", "ba")
    texts = {encode(TrialStarted(trial_id="1", config={name: ord(name) - 96 for name in order})) for order in orders}
    assert texts == {'{"trial_id":"1","bracket":0,"config":{"a":1,"b":2}}'}


class Moved(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "moved"
    SCHEMA_VERSION: ClassVar[int] = 3

    trial_id: str
    distance_m: int
    reason: str


def _name_the_unit(data: dict[str, Any]) -> dict[str, Any]:
    return {"trial_id": data["trial_id"], "distance_m": data["distance_km"] * 1_000}


def _give_a_reason(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"reason": "unknown"}


LIFTING = Codec({"moved": Moved}, {("moved", 1): _name_the_unit, ("moved", 2): _give_a_reason})
EXPECTED = Moved(trial_id="1", distance_m=2_000, reason="unknown")


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (1, {"trial_id": "1", "distance_km": 2}),
        (2, {"trial_id": "1", "distance_m": 2_000}),
        (3, {"trial_id": "1", "distance_m": 2_000, "reason": "unknown"}),
    ],
)
def test_what_any_older_version_wrote_is_lifted_step_by_step(version: int, data: dict[str, Any]) -> None:
    assert LIFTING.decode("moved", version, json.dumps(data)) == EXPECTED


def test_what_a_newer_version_wrote_is_refused() -> None:
    with pytest.raises(LogCorrupt, match="schema version 4, this software reads up to 3; upgrade it"):
        LIFTING.decode("moved", 4, "{}")


def test_an_old_version_that_nothing_lifts_is_refused() -> None:
    with pytest.raises(LogCorrupt, match="no upcaster lifts moved from schema version 2"):
        Codec({"moved": Moved}, {("moved", 1): _name_the_unit}).decode("moved", 1, '{"trial_id":"1","distance_km":2}')


def test_what_an_upcaster_gets_wrong_is_refused() -> None:
    lifting = Codec({"moved": Moved}, {("moved", 2): lambda data: data | {"reason": 7}})
    with pytest.raises(LogCorrupt, match="`reason` is 7"):
        lifting.decode("moved", 2, '{"trial_id":"1","distance_m":1}')


def test_a_type_that_is_not_known_is_refused() -> None:
    with pytest.raises(LogCorrupt, match="'trial_cloned', unknown to this software"):
        Codec().decode("trial_cloned", 1, "{}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"trial_id":"1","level":1', "no JSON"),
        ('{"trial_id":"1","level":1,"metric":"small"}', "`metric` is 'small'"),
        ('{"trial_id":"1","level":0,"metric":1.0}', "`level` is 0"),
        ('{"trial_id":"1","level":1,"metric":1.0,"more":1}', "`more` is 1"),
        ('{"trial_id":"1","metric":1.0}', "`level` is None"),
    ],
)
def test_text_that_is_no_such_event_is_refused(text: str, says: str) -> None:
    with pytest.raises(LogCorrupt, match=says):
        Codec().decode(TrialPaused.TYPE, 1, text)


def test_an_event_without_more_fields_takes_none() -> None:
    with pytest.raises(LogCorrupt, match="no such field"):
        Codec().decode(TrialStopped.TYPE, 1, '{"trial_id":"1","level":1}')


def test_what_was_accepted_once_is_read_whatever_the_rules_are_now() -> None:
    """An id that is not in normal form, or that this Python's Unicode does not know, is no reason to lose a stream."""
    text = '{"trial_id":"x\\u2f800","resource":1,"metric":"NaN"}'
    payload = Codec().decode("trial_reported", 1, text)
    assert isinstance(payload, TrialReported)
    assert math.isnan(payload.metric)

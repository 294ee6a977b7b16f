"""Numbers that are refused, in every field that holds one."""

from __future__ import annotations

from typing import Any

import pytest

from bad_input import event, line, raw_line, refused_line, running_trial
from quota.domain.events import CheckpointSaved, Event, LimitSet, TrialPaused, TrialReported, TrialStarted
from quota.errors import NumberRefused
from quota.services.ingesting import parse_line

SAVED: dict[str, Any] = {"trial_id": "7", "uri": "memory://store/7/", "size_bytes": 5, "resource": 1}
REGISTRATION: dict[str, Any] = {
    "mode": "min",
    "rung_levels": [1, 3],
    "promotion_quantiles": [0.5, 0.5],
    "max_resource": 9,
}
GOOD: dict[str, dict[str, Any]] = {
    "checkpoint_saved": SAVED,
    "trial_paused": {"trial_id": "7", "level": 1, "metric": 0.5},
    "trial_reported": {"trial_id": "7", "resource": 1, "metric": 0.5},
    "trial_started": {"trial_id": "7", "bracket": 0},
    "trial_resumed": {"trial_id": "7", "level": 1},
    "experiment_registered": REGISTRATION | {"max_wallclock_seconds": 60},
}
COUNTS = [
    ("trial_paused", "level"),
    ("trial_resumed", "level"),
    ("trial_reported", "resource"),
    ("checkpoint_saved", "resource"),
    ("experiment_registered", "max_resource"),
]
NUMERIC = [
    *COUNTS,
    ("checkpoint_saved", "size_bytes"),
    ("trial_paused", "metric"),
    ("trial_reported", "metric"),
    ("trial_started", "bracket"),
    ("experiment_registered", "max_wallclock_seconds"),
]
REFUSED_COUNTS = [(-1, "`int` >= 1"), (0, "`int` >= 1"), (1.5, "expected `int`"), (2**53 + 1, "<= 9007199254740992")]


def test_what_these_tests_change_is_good() -> None:
    for kind, data in GOOD.items():
        assert parse_line(line(event(kind, data)), 1, "tester") is not None


@pytest.mark.parametrize(("kind", "field"), NUMERIC)
@pytest.mark.parametrize(("value", "got"), [(True, "got `bool`"), ("1", "got `str`"), ([1], "got `array`")])
def test_only_numbers_are_numbers(kind: str, field: str, value: object, got: str) -> None:
    sent = line(event(kind, {**GOOD[kind], field: value}))
    refused_line(NumberRefused, sent, kind, f"field `data.{field}` is {value!r}: expected", got)


@pytest.mark.parametrize(("kind", "field"), COUNTS)
@pytest.mark.parametrize(("value", "reason"), REFUSED_COUNTS)
def test_levels_and_resources_are_counts(kind: str, field: str, value: float, reason: str) -> None:
    sent = line(event(kind, {**GOOD[kind], field: value}))
    refused_line(NumberRefused, sent, kind, f"field `data.{field}` is {value!r}", reason)


@pytest.mark.parametrize(("value", "reason"), [(-1, ">= 0"), (2**63, "<= 9223372036854775807"), (0.5, "`int`")])
def test_sizes_fit_the_databases(value: float, reason: str) -> None:
    sent = line(event("checkpoint_saved", {**SAVED, "size_bytes": value}))
    refused_line(NumberRefused, sent, "checkpoint_saved", f"field `data.size_bytes` is {value!r}", reason)


@pytest.mark.parametrize(
    ("kind", "data", "field", "value", "reason"),
    [
        ("trial_reported", '{"trial_id": "7", "resource": 1, "metric": 1e999}', "data.metric", "1e999", '"Infinity"'),
        ("trial_reported", '{"trial_id": "7", "resource": 1e999, "metric": 1}', "data.resource", "1e999", "double"),
        ("trial_started", '{"trial_id": "7", "config": {"lr": -1e999}}', "data.config.lr", "-1e999", "double"),
        ("trial_reported", f'{{"trial_id": "7", "resource": 1{"0" * 30}, "metric": 1}}', "data.resource", "1", "2^63"),
        ("trial_reported", f'{{"trial_id": "7", "resource": 1, "metric": {"9" * 5000}}}', "data.metric", "9", "2^63"),
        ("experiment_registered", '{"rung_levels": [1, 1e999]}', "data.rung_levels[1]", "1e999", "double"),
        ("trial_reported", '{"trial_id": "7", "resource": NaN, "metric": 1}', "data.resource", "nan", "expected `int`"),
        ("trial_reported", '{"trial_id": "7", "resource": 1, "metric": "nan"}', "data.metric", "'nan'", "`float`"),
    ],
)
def test_numbers_that_nothing_can_hold(kind: str, data: str, field: str, value: str, reason: str) -> None:
    refused_line(NumberRefused, raw_line(kind, data), f"field `{field}` is ", value, reason)


REGISTRATIONS: list[Any] = [
    ({"promotion_quantiles": [0.5, value]}, "promotion_quantiles[1]", reason)
    for value, reason in [(0, "> 0"), (1, "< 1"), (-0.5, "> 0"), (1.5, "< 1"), ("0.5", "`float`"), (True, "`float`")]
] + [
    ({"rung_levels": [3, 1]}, "rung_levels", "rung levels must rise, each one named once"),
    ({"rung_levels": [1, 1]}, "rung_levels", "rung levels must rise, each one named once"),
    ({"rung_levels": []}, "rung_levels", "at least one rung level is needed"),
    ({"rung_levels": [1, 9]}, "rung_levels", "must be below max_resource, which is 9"),
    ({"rung_levels": [1, 10]}, "rung_levels", "must be below max_resource, which is 9"),
    ({"rung_levels": [0, 3]}, "rung_levels[0]", "`int` >= 1"),
    ({"rung_levels": [True, 3]}, "rung_levels[0]", "expected `int`, got `bool`"),
    ({"promotion_quantiles": [0.5]}, "promotion_quantiles", "one quantile a rung level is needed: 2"),
    ({"max_wallclock_seconds": 0}, "max_wallclock_seconds", "above 0"),
    ({"max_wallclock_seconds": -1}, "max_wallclock_seconds", "above 0"),
]


@pytest.mark.parametrize(("change", "field", "reason"), REGISTRATIONS)
def test_registrations(change: dict[str, object], field: str, reason: str) -> None:
    sent = line(event("experiment_registered", REGISTRATION | change))
    refused_line(NumberRefused, sent, "experiment_registered", f"field `data.{field}` is ", reason)


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-Infinity"])
def test_length_of_an_experiment_is_finite(seconds: str) -> None:
    good = '{"mode": "min", "rung_levels": [1], "promotion_quantiles": [0.5], "max_resource": 3, '
    sent = raw_line("experiment_registered", f'{good}"max_wallclock_seconds": {seconds}}}')
    refused_line(NumberRefused, sent, "field `data.max_wallclock_seconds` is ", "finite number of seconds above 0")


def through_python() -> list[tuple[Event, str, str]]:
    """Give events whose classes do not check what they are made of."""
    yes: Any = True
    text: Any = "1"
    half: Any = 0.5
    return [
        (TrialPaused(trial_id="7", level=yes, metric=0.5), "level", "is True: expected `int`, got `bool`"),
        (TrialPaused(trial_id="7", level=text, metric=0.5), "level", "is '1': expected `int`, got `str`"),
        (TrialPaused(trial_id="7", level=half, metric=0.5), "level", "is 0.5: expected `int`"),
        (TrialPaused(trial_id="7", level=2**53 + 1, metric=0.5), "level", "<= 9007199254740992"),
        (TrialReported(trial_id="7", resource=-1, metric=0.5), "resource", "is -1: expected `int` >= 1"),
        (TrialReported(trial_id="7", resource=1, metric=yes), "metric", "is True: expected `float`, got `bool`"),
        (TrialReported(trial_id="7", resource=1, metric=text), "metric", "is '1': expected `float`, got `str`"),
        (TrialReported(trial_id="7", resource=1, metric=10**400), "metric", "is 1000"),
        (CheckpointSaved(**{**SAVED, "size_bytes": 2**63}), "size_bytes", "<= 9223372036854775807"),
        (CheckpointSaved(**{**SAVED, "size_bytes": -1}), "size_bytes", "is -1: expected `int` >= 0"),
        (TrialStarted(trial_id="8", config={"lr": float("nan")}), "config.lr", "send it as text"),
        (TrialStarted(trial_id="8", config={"lr": float("inf")}), "config.lr", "send it as text"),
        (TrialStarted(trial_id="8", config={"lr": 10**30}), "config.lr", "2^63"),
        (TrialStarted(trial_id="8", config={"lr": [0.1, (float("nan"),)]}), "config.lr[1][0]", "send it as text"),
    ]


def test_numbers_through_python(database_url: str) -> None:
    with running_trial(database_url) as trial:
        for payload, field, reason in through_python():
            trial.refuses_event(NumberRefused, payload, f"field `{field}`", reason)


def test_sizes_at_the_ends_of_their_range(database_url: str) -> None:
    with running_trial(database_url) as trial:
        for size in (0, 2**62):
            trial.ingest(
                line(event("checkpoint_saved", {**SAVED, "uri": f"memory://store/{size}/", "size_bytes": size}))
            )
        again = {**SAVED, "uri": f"memory://store/{2**62}/", "size_bytes": 2**62}
        trial.ingest(line(event("checkpoint_saved", again)))
        assert trial.rows("SELECT size_bytes FROM checkpoints ORDER BY size_bytes") == [(0,), (2**62,)]
        one_more = CheckpointSaved(**{**SAVED, "uri": "memory://store/more/", "size_bytes": 1})
        reason = f"checkpoints have {2**62} bytes already, and may have at most {2**62} in all"
        trial.refuses_event(NumberRefused, one_more, "field `size_bytes` is 1", reason)


def test_levels_that_the_stream_does_not_allow(database_url: str) -> None:
    with running_trial(database_url) as trial:
        no_rung = line(event("trial_paused", {"trial_id": "7", "level": 2, "metric": 0.5}))
        trial.refuses_lines(
            NumberRefused,
            [no_rung],
            "(trial_paused)",
            "field `level` is 2: no rung has this level; rung levels are 1, 3, 9",
        )
        trial.handle.trial_paused("7", level=3, metric=0.5)
        trial.handle.resume_trial("7", level=3)
        below = line(event("trial_paused", {"trial_id": "7", "level": 1, "metric": 0.5}))
        trial.refuses_lines(NumberRefused, [below], "field `level` is 1: the trial was paused at level 3 before")
        trial.handle.trial_paused("7", level=3, metric=0.4)


def test_limits(database_url: str) -> None:
    yes: Any = True
    with running_trial(database_url) as trial:
        administration = trial.services.administration
        for high, low, field, reason in [
            (0, 0, "high", "is 0: expected `int` >= 1"),
            (-2, 1, "high", "is -2: expected `int` >= 1"),
            (3, 0, "low", "is 0: expected `int` >= 1"),
            (3, 4, "low", "is 4: the low watermark must not be above the high one, which is 3"),
            (yes, 1, "high", "is True: expected `int`, got `bool`"),
            (2**60, 1, "high", "<= 9007199254740992"),
        ]:
            limit = LimitSet(scope="experiments", measure="checkpoints", high=high, low=low)
            said = ("limit of experiments", f"field `{field}` ", reason)
            trial.refuses(NumberRefused, lambda limit=limit: administration.set_limit(limit), *said)
        assert administration.look().limits == {}
        assert administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=3, low=3)).high == 3

"""BAD_INPUT, Numbers."""

from __future__ import annotations

from typing import Any

import pytest

from bad_input import REGISTERED, assert_refused, event, experiment, line, refused_line
from quota.domain.events import LimitSet
from quota.errors import NumberRefused, SettingsRefused
from quota.settings import load_settings

REPORT = {"trial_id": "7", "resource": 3, "metric": 0.5}
SAVED = {"trial_id": "7", "uri": "file:///scratch/7", "size_bytes": 1, "resource": 1}
PAUSED = {"trial_id": "7", "level": 3, "metric": 0.5}

BY_THEMSELVES: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("trial_reported", REPORT, {"resource": True}, "data.resource", "expected `int`, got `bool`"),
    ("trial_reported", REPORT, {"metric": True}, "data.metric", "expected `float`, got `bool`"),
    ("trial_paused", PAUSED, {"level": True}, "data.level", "expected `int`, got `bool`"),
    ("checkpoint_saved", SAVED, {"size_bytes": False}, "data.size_bytes", "expected `int`, got `bool`"),
    ("trial_reported", REPORT, {"resource": "3"}, "data.resource", "expected `int`, got `str`"),
    ("trial_reported", REPORT, {"metric": "0.5"}, "data.metric", "expected `float`, got `str`"),
    ("trial_reported", REPORT, {"resource": -1}, "data.resource", "expected `int` >= 1"),
    ("trial_reported", REPORT, {"resource": 0}, "data.resource", "expected `int` >= 1"),
    ("trial_reported", REPORT, {"resource": 1.5}, "data.resource", "expected `int`, got `float`"),
    ("trial_reported", REPORT, {"resource": 2**53 + 1}, "data.resource", "expected `int` <= 9007199254740992"),
    ("trial_paused", PAUSED, {"level": -3}, "data.level", "expected `int` >= 1"),
    ("trial_paused", PAUSED, {"level": 0}, "data.level", "expected `int` >= 1"),
    ("trial_paused", PAUSED, {"level": 3.5}, "data.level", "expected `int`, got `float`"),
    ("trial_paused", PAUSED, {"level": 2**53 + 1}, "data.level", "expected `int` <= 9007199254740992"),
    ("checkpoint_saved", SAVED, {"size_bytes": -1}, "data.size_bytes", "expected `int` >= 0"),
    ("checkpoint_saved", SAVED, {"size_bytes": 2**63}, "data.size_bytes", "expected `int` <= 9223372036854775807"),
    ("experiment_registered", REGISTERED, {"promotion_quantiles": [0.5, 1.0, 0.5]}, "data.promotion_quantiles[1]",
     "expected `float` < 1.0"),
    ("experiment_registered", REGISTERED, {"promotion_quantiles": [0.0, 0.5, 0.5]}, "data.promotion_quantiles[0]",
     "expected `float` > 0.0"),
    ("experiment_registered", REGISTERED, {"promotion_quantiles": [0.5]}, "data.promotion_quantiles",
     "one quantile a rung level is needed: 3"),
    ("experiment_registered", REGISTERED, {"rung_levels": [3, 1, 9]}, "data.rung_levels",
     "rung levels must rise, each one named once"),
    ("experiment_registered", REGISTERED, {"rung_levels": [1, 1, 9]}, "data.rung_levels",
     "rung levels must rise, each one named once"),
    ("experiment_registered", REGISTERED, {"rung_levels": []}, "data.rung_levels", "at least one rung level is needed"),
    ("experiment_registered", REGISTERED, {"rung_levels": [1, 3, 27]}, "data.rung_levels",
     "every rung level must be below max_resource, which is 27"),
    ("experiment_registered", REGISTERED, {"max_wallclock_seconds": 0}, "data.max_wallclock_seconds",
     "must be a finite number of seconds above 0, or null for an open end"),
    ("experiment_registered", REGISTERED, {"max_wallclock_seconds": -5.0}, "data.max_wallclock_seconds",
     "must be a finite number of seconds above 0, or null for an open end"),
]  # fmt: skip


@pytest.mark.parametrize(("type_name", "good", "bad", "field", "reason"), BY_THEMSELVES)
def test_number_is_refused(type_name: str, good: dict[str, Any], bad: dict[str, Any], field: str, reason: str) -> None:
    sent = event(type_name, good | bad)
    error = refused_line(NumberRefused, line(sent))
    value = error.value
    assert str(error) == f"line 7, event {sent['event_id']} ({type_name}): field `{field}` is {value!r}: {reason}"
    assert value in [*bad.values(), *[part for whole in bad.values() if isinstance(whole, list) for part in whole]]


@pytest.mark.parametrize("number", [b"1e999", b"-1e999"])
def test_number_beyond_a_double_is_refused(number: bytes) -> None:
    error = refused_line(NumberRefused, line(event("trial_reported", REPORT)).replace(b"0.5", number))
    assert str(error) == (
        f"line 7: field `data.metric` is {number.decode()!r}: beyond what a double can hold; "
        'an infinite metric is written "Infinity"'
    )


def test_number_of_many_digits_is_refused() -> None:
    error = refused_line(NumberRefused, line(event("trial_reported", REPORT)).replace(b"0.5", b"9" * 5_000))
    assert "beyond 2^63" in str(error)
    assert len(str(error)) < 300


def test_levels_that_do_not_fit_the_experiment(database_url: str) -> None:
    with experiment(database_url) as services:
        assert_refused(
            services,
            event("trial_reported", REPORT),
            event("trial_paused", PAUSED | {"level": 2}),
            error=NumberRefused,
            message="line 2, event ID (trial_paused): field `level` is 2: "
            "no rung has this level; rung levels are 1, 3, 9",
        )
        services.recorder.append([])
        paused = event("trial_paused", PAUSED)
        resumed = event("trial_resumed", {"trial_id": "7", "level": 3})
        assert_refused(
            services,
            paused,
            resumed,
            event("trial_paused", PAUSED | {"level": 1}),
            error=NumberRefused,
            message="line 3, event ID (trial_paused): field `level` is 1: "
            "the trial was paused at level 3 before, it cannot be paused below that",
        )


@pytest.mark.parametrize(
    ("high", "low", "field", "reason"),
    [
        (0, 0, "high", "expected `int` >= 1"),
        (-1, -1, "high", "expected `int` >= 1"),
        (5, 0, "low", "expected `int` >= 1"),
        (5, 6, "low", "the low watermark must not be above the high one, which is 5"),
    ],
)
def test_limit_is_refused(database_url: str, high: int, low: int, field: str, reason: str) -> None:
    with experiment(database_url) as services:
        limit = LimitSet(scope="experiment:one", measure="checkpoints", high=high, low=low)
        with pytest.raises(NumberRefused) as caught:
            services.administration.set_limit(limit)
        value = getattr(limit, field)
        assert str(caught.value) == f"limit of experiment:one: field `{field}` is {value}: {reason}"
        assert services.administration.look().limits == {}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"prior_mean": 0.0}, "greater than 0"),
        ({"prior_mean": 1.0}, "less than 1"),
        ({"prior_size": 0.0}, "greater than 0"),
        ({"prior_size": float("inf")}, "finite"),
        ({"min_data_at_rung": -1}, "greater than or equal to 0"),
        ({"approx_steps": 0}, "greater than or equal to 1"),
    ],
)
def test_prior_is_refused(given: dict[str, float], reason: str) -> None:
    with pytest.raises(SettingsRefused) as caught:
        load_settings(**given)
    ((name, value),) = given.items()
    assert str(caught.value).startswith(f"settings: field `{name}` is {value}: ")
    assert reason in str(caught.value)

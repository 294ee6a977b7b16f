"""What commands print: JSON that every reader takes, and sentences that hold."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from quota.cli.explain import called_for
from quota.cli.plan import reasons
from quota.cli.session import print_json

if TYPE_CHECKING:
    from quota.domain.events import LimitMeasure


def test_numbers_that_are_none_are_written_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"metric": math.nan, "of": [(math.inf, -math.inf, 1.5)]})
    printed = capsys.readouterr().out
    assert json.loads(printed, parse_constant=pytest.fail) == {"metric": "NaN", "of": [["Infinity", "-Infinity", 1.5]]}


def test_where_nothing_is_held_a_reason_is_given_all_the_same() -> None:
    assert reasons({}) == "it holds nothing that counts and could be evicted"
    assert reasons({"pinned": 2, "left": 1}) == "it holds 2 pinned, 1 that are left to the next sweep"


COUNTED = "5 checkpoints were there, and 4 checkpoints are allowed; 3 checkpoints were to be left"


@pytest.mark.parametrize(
    ("measure", "numbers", "said"),
    [
        (None, (4, 3, 5, 3), f"{COUNTED}; the plan led to 3 checkpoints"),
        ("bytes", (4000, 3000, 5000, None), "5.0 kB were there, and 4.0 kB are allowed; 3.0 kB were to be left"),
        (
            "free_percent",
            (10, 20, 95_000, None),
            "10% have to stay free, and 20% are to be free again; 95.0 kB of the file system were used",
        ),
    ],
)
def test_what_a_limit_called_for_is_said_in_its_measure(
    measure: LimitMeasure | None, numbers: tuple[int, int, int, int | None], said: str
) -> None:
    assert called_for(measure, *numbers) == said

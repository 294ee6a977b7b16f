"""Reading events from a file: what was stored before a line that is none, and what is wrong with all lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quota.domain.wire import MAX_EVENT_BYTES
from quota.services.ids import new_id

if TYPE_CHECKING:
    from acceptance.commands import Run

REGISTERED = {"mode": "min", "rung_levels": [1], "promotion_quantiles": [0.5], "max_resource": 3}


def event(type_name: str, data: dict[str, Any]) -> str:
    return json.dumps(
        {
            "event_id": new_id(),
            "experiment_id": "one",
            "type": type_name,
            "occurred_at": "2026-01-01T00:00:00Z",
            "data": data,
        }
    )


def write(trials: int, **mistakes: str) -> None:
    """Write one event a line, the first one and one for each trial; and mistakes in place of some lines."""
    lines = [event("experiment_registered", REGISTERED)]
    lines += [event("trial_started", {"trial_id": str(number)}) for number in range(1, trials + 1)]
    for number, mistake in mistakes.items():
        lines[int(number.removeprefix("line")) - 1] = mistake
    Path("events.jsonl").write_text("\n".join(lines))


@pytest.fixture
def ready(run: Run) -> Run:
    assert run("db", "upgrade").code == 0
    return run


def test_what_was_stored_before_a_line_that_is_refused_is_said(ready: Run) -> None:
    write(1_100, line1090="hello")
    refused = ready("ingest", "events.jsonl")
    assert refused.code == 1
    assert "line 1090 is 'hello': the line is no JSON" in refused.err
    assert (
        "\n1000 events stored, and nothing from line 1001 on; mend that, and read the whole file again" in refused.err
    )
    assert ready("audit", "export", "one").out.count("\n") == 1_000
    told = json.loads(ready("ingest", "events.jsonl", "--json").err)
    assert told["reason"].startswith("the line is no JSON")
    assert {name: told[name] for name in ("stored", "stored_before", "not_stored_from_line")} == {
        "stored": 0,
        "stored_before": 1_000,
        "not_stored_from_line": 1_001,
    }


def test_what_the_log_refuses_is_said_to_be_stored_in_no_part(ready: Run) -> None:
    write(2, line3=event("trial_paused", {"trial_id": "7", "level": 1, "metric": 0.5}))
    refused = ready("ingest", "events.jsonl")
    assert refused.code == 1
    assert "0 events stored, and nothing from line 1 on" in refused.err


def test_a_check_stores_nothing_and_shows_all_mistakes(run: Run) -> None:
    too_long = json.dumps({"x": "y" * 3 * MAX_EVENT_BYTES})
    write(9, line2="hello", line4=event("trial_started", {"trial": "4"}), line6=too_long, line8="")
    checked = run("ingest", "events.jsonl", "--check")
    assert (checked.code, checked.out) == (1, "6 events could be stored; 3 lines refused\n")
    first, second, third = checked.err.splitlines()
    assert first.startswith("line 2 is 'hello'")
    assert second.startswith("line 4, event ")
    assert "field `data.trial`" in second
    assert third.startswith("line 6 ")
    told = run("ingest", "events.jsonl", "--check", "--json").data
    assert [mistake["line"] for mistake in told["mistakes"]] == [2, 4, 6]
    assert (told["events"], told["refused"], told["mistakes"][1]["field"]) == (6, 3, "data.trial")
    assert not Path("quota.db").exists()


def test_a_check_of_what_is_right_says_what_it_cannot_know(run: Run) -> None:
    write(2)
    checked = run("ingest", "events.jsonl", "--check")
    assert (checked.code, checked.err) == (0, "")
    assert checked.out == "3 events could be stored; whether the log admits them is seen then\n"


def test_a_check_shows_the_first_hundred_mistakes(run: Run) -> None:
    Path("events.jsonl").write_text("no\n" * 150)
    checked = run("ingest", "events.jsonl", "--check")
    assert len(checked.err.splitlines()) == 101
    assert checked.err.endswith("\n50 more\n")
    assert checked.out == "0 events could be stored; 150 lines refused\n"
    told = run("ingest", "events.jsonl", "--check", "--json").data
    assert (len(told["mistakes"]), told["refused"]) == (100, 150)

"""The command line on a log that somebody has changed: it names what is damaged, and goes on with the rest."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import quota

if TYPE_CHECKING:
    from acceptance.commands import Run

UNREADABLE = "UPDATE events SET data = '{\"x\":' WHERE experiment_id = 'aaa' AND position = 6"
MISSING = "DELETE FROM events WHERE experiment_id = 'aaa' AND position = 2"


def record(trial_id: str) -> None:
    with quota.connect("sqlite:///quota.db") as db:
        for name in ("aaa", "bbb"):
            experiment = db.register_experiment(
                name, mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=3
            )
            experiment.trial_started(trial_id)


def tamper(statement: str) -> None:
    with closing(sqlite3.connect("quota.db")) as connection, connection:
        for trigger in ("update", "delete", "replace"):
            connection.execute(f"DROP TRIGGER events_reject_{trigger}")
        assert connection.execute(statement).rowcount > 0


@pytest.fixture
def two(run: Run, tmp_path: Path) -> Run:
    """Two experiments of two trials, of which the views reflect all; a store and a limit."""
    record("1")
    record("2")
    (tmp_path / "scratch").mkdir()
    assert run("store", "add", "scratch").code == 0
    assert run("limit", "set", "--checkpoints", "10").code == 0
    assert run("experiment", "list").code == 0
    return run


def test_rebuild_goes_on_with_the_other_streams(two: Run) -> None:
    tamper(MISSING)
    for options in ([], ["--verify"]):
        rebuilt = two("rebuild", *options)
        assert rebuilt.code == 1
        assert "failed: event 2 of aaa: it is missing, and event 3 follows; run `ckpt-quota audit" in rebuilt.err
        told = two("rebuild", *options, "--json")
        assert told.code == 1
        assert [failed["experiment_id"] for failed in told.data["failed"]] == ["aaa"]
        assert (told.data["streams"], told.data["events"], told.data["differences"]) == (2, 6, [])
    assert "2 streams rebuilt from 6 events" in two("rebuild").out


def test_rebuild_of_one_experiment(two: Run) -> None:
    tamper(MISSING)
    assert two("rebuild", "bbb").out == "1 streams rebuilt from 4 events\n"
    assert two("rebuild", "_deployment", "bbb", "--verify").out.startswith("2 streams verified")
    assert two("rebuild", "aaa").code == 1
    assert "experiment nobody: there is none" in two("rebuild", "nobody").err


def test_rows_that_differ_are_not_made_anew_before_the_log_is_looked_at(two: Run) -> None:
    with closing(sqlite3.connect("quota.db")) as connection, connection:
        connection.execute("UPDATE trials SET status = 'failed'")
    assert "run `ckpt-quota audit verify` first: where every chain holds" in two("rebuild", "--verify").err


def test_rows_of_no_experiment_are_found_and_removed(two: Run) -> None:
    with closing(sqlite3.connect("quota.db")) as connection, connection:
        connection.execute("INSERT INTO flags VALUES ('nobody', 1, 'late_report')")
    assert "flags {'experiment_id': 'nobody', 'position': 1" in two("rebuild", "--verify").err
    assert two("rebuild").code == 0
    assert two("rebuild", "--verify").code == 0


def test_rows_of_a_stream_that_was_removed_stay(two: Run) -> None:
    """What they say, of trash too, nothing else does."""
    tamper("DELETE FROM events WHERE experiment_id = 'aaa'")
    with closing(sqlite3.connect("quota.db")) as connection, connection:
        connection.execute("DELETE FROM streams WHERE experiment_id = 'aaa'")
    for options in ([], ["--verify"], []):
        told = two("rebuild", *options)
        assert told.code == 1
        assert "projections of experiment aaa: the rows reflect" in told.err
        assert "and the log ends at 0" in told.err
    with closing(sqlite3.connect("quota.db")) as connection:
        assert connection.execute("SELECT count(*) FROM trials WHERE experiment_id = 'aaa'").fetchone()[0] > 0


@pytest.fixture
def behind(two: Run) -> Run:
    """The same, with a third trial each that the views do not know; what `aaa` says of it cannot be read."""
    record("3")
    tamper(UNREADABLE)
    return two


NOT_UP_TO_DATE = "experiment aaa is not up to date: event 6 of aaa: the log holds trial_started whose data is no JSON"


def test_lists_are_answered_about_the_rest(behind: Run) -> None:
    listed = behind("experiment", "list")
    assert listed.code == 0
    assert NOT_UP_TO_DATE in listed.err
    trials = {row["experiment_id"]: row["running_trials"] for row in behind("experiment", "list", "--json").data}
    assert trials == {"aaa": 2, "bbb": 3}
    for arguments in (["evictions"], ["evictions", "-e", "aaa"]):
        answer = behind(*arguments)
        assert (answer.code, answer.out) == (0, "no evictions\n")
        assert NOT_UP_TO_DATE in answer.err
    told = json.loads(behind("evictions", "--json").err)
    assert (told["experiment_id"], told["problem"]) == ("aaa", "is not up to date")
    assert behind("evictions", "-e", "bbb").err == ""
    assert behind("experiment", "show", "bbb").code == 0
    assert behind("experiment", "show", "aaa").code == 1


def test_plans_leave_out_what_cannot_be_trusted_and_fail(behind: Run) -> None:
    for arguments in (["plan"], ["sweep", "--dry-run"]):
        planned = behind(*arguments)
        assert planned.code == 1
        assert "experiment aaa is left out: event 6 of aaa" in planned.err
        assert " experiment:bbb " in planned.out
        assert " aaa " not in planned.out
        assert [plan["experiment_id"] for plan in behind(*arguments, "--json").data["plans"]] == ["bbb"]
    assert behind("plan", "-e", "bbb").code == 0
    assert behind("plan", "-e", "aaa").out == ""


def test_doctor_names_what_is_not_up_to_date_and_goes_on(behind: Run) -> None:
    told = behind("doctor", "--json")
    assert told.code == 1
    failing = [check for check in told.data if not check["ok"]]
    assert [check["check"] for check in failing] == ["experiment"]
    assert failing[0]["detail"].startswith("aaa is not up to date: event 6 of aaa: the log holds trial_started")
    assert any(check["check"].startswith("store") for check in told.data)


def test_an_experiment_whose_rows_are_gone_is_no_fault_of_ours(two: Run) -> None:
    with closing(sqlite3.connect("quota.db")) as connection, connection:
        connection.execute("DELETE FROM experiments")
    shown = two("experiment", "show", "bbb")
    assert shown.code == 1
    assert "its rows are gone; run `ckpt-quota audit verify` first" in shown.err


def head(**changed: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"experiment_id": "aaa", "position": 3, "hash": "0" * 64} | changed


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (f"{'0' * 64}  3  aaa\n{'z' * 64}  3  bbb\n", "line 2: it has no hash, 64 hexadecimal digits"),
        (f"{'0' * 63}  3  aaa\n", "line 1: it has no hash"),
        (f"{'0' * 64}  x  aaa\n", "line 1: it has no position"),
        (f"{'0' * 64}  {10**19 - 1}  aaa\n", "line 1: it has no position"),
        (f"{'0' * 64}\n", "line 1: it names no stream"),
        (json.dumps([head(), head(hash=5)]), "entry 2: it has no hash"),
        (json.dumps([head(hash="zz" * 32)]), "entry 1: it has no hash"),
        (json.dumps([head(position="3")]), "entry 1: it has no position"),
        (json.dumps([head(position=True)]), "entry 1: it has no position"),
        (json.dumps([head(position=2**63)]), "entry 1: it has no position"),
        (json.dumps([head(experiment_id=None)]), "entry 1: it names no stream"),
        (json.dumps([head(experiment_id="\0")]), "entry 1: it names no stream"),
        (json.dumps([head(), 7]), "entry 2: it names no stream"),
        ("[1", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
    ],
)
def test_heads_that_are_none_are_named(two: Run, kept: str, said: str) -> None:
    Path("heads").write_text(kept)
    refused = two("audit", "verify", "--heads", "heads")
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err
    assert "the file holds what `ckpt-quota audit head` printed" in refused.err

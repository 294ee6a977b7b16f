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

UNREADABLE = "UPDATE events SET data = '{\"x\":' WHERE experiment_id = 'aaa' AND position = 4"
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
        assert connection.execute(statement).rowcount == 1


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

"""What cron's commands say as log lines: one JSON object a line, and nothing where nothing happened."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from acceptance.commands import Answer, Run


def lines(answer: Answer) -> list[dict[str, Any]]:
    """Return what was said on standard error; nothing was said on standard output."""
    assert answer.out == ""
    return [json.loads(line) for line in answer.err.splitlines()]


@pytest.fixture(params=["option", "variable"])
def cron(run: Run, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command whose log lines are JSON."""
    if request.param == "variable":
        monkeypatch.setenv("QUOTA_LOG_FORMAT", "json")
        return run
    return lambda *arguments: run(*arguments, "--log-format", "json")


def test_a_sweep_says_what_it_did_once(run: Run, paused: Path, cron: Run) -> None:
    assert paused.is_dir()
    evicted, said = lines(cron("sweep"))
    assert evicted["level"] == said["level"] == "INFO"
    assert (evicted["kind"], evicted["uri"]) == ("evicted", (paused / "trial-2").as_uri())
    assert (evicted["experiment_id"], evicted["trial_id"], evicted["size_bytes"]) == ("asha", "2", 100)
    assert {name: said[name] for name in ("job", "evicted", "purged", "failed", "missing")} == {
        "job": "sweep",
        "evicted": 1,
        "purged": 0,
        "failed": 0,
        "missing": 0,
    }
    (row,) = run("evictions", "--json", "--sweep", said["sweep_id"]).data
    assert row["decision_id"] == evicted["decision_id"]
    assert lines(cron("sweep")) == []


def test_a_sweep_says_what_is_missing(paused: Path, cron: Run) -> None:
    shutil.rmtree(paused / "trial-2")
    counts, missing = lines(cron("sweep"))
    assert (counts["level"], counts["missing"], counts["evicted"]) == ("INFO", 1, 0)
    assert (missing["level"], missing["kind"]) == ("WARNING", "missing")
    assert missing["uri"] == (paused / "trial-2").as_uri()


def test_a_sweep_says_what_failed(paused: Path, cron: Run) -> None:
    (paused / "trial-2").rename(paused / "elsewhere")
    (paused / "trial-2").symlink_to("elsewhere")
    swept = cron("sweep")
    assert swept.code == 1
    evicted, counts, failed = lines(swept)
    assert evicted["trial_id"] == "1"
    assert (counts["failed"], counts["evicted"]) == (1, 1)
    assert (failed["level"], failed["kind"], failed["job"]) == ("ERROR", "failed", "sweep")
    assert "it is a symbolic link" in failed["error"]


def test_a_sweep_says_which_limit_is_still_exceeded(run: Run, paused: Path, cron: Run) -> None:
    assert paused.is_dir()
    for trial_id in ("1", "2"):
        assert run("pin", "asha", trial_id).code == 0
    swept = cron("sweep")
    assert swept.code == 3
    (said,) = lines(swept)
    assert (said["kind"], said["experiment_id"], said["held_back"]) == ("exceeded", "asha", {"pinned": 2})


def test_an_answer_for_machines_comes_besides(run: Run, paused: Path) -> None:
    assert paused.is_dir()
    swept = run("sweep", "--log-format", "json", "--json")
    assert swept.data["evicted"] == 1
    assert [json.loads(line).get("evicted") for line in swept.err.splitlines()] == [None, 1]


def test_what_ends_a_command_is_a_line_too(cron: Run) -> None:
    for command in ("sweep", "reconcile"):
        ended = cron(command)
        assert ended.code == 1
        (said,) = lines(ended)
        assert (said["level"], "there is none; make it with" in said["message"]) == ("ERROR", True)


def test_a_reconcile_says_each_difference(paused: Path, cron: Run) -> None:
    assert lines(cron("reconcile")) == []
    shutil.rmtree(paused / "trial-1")
    (paused / "trial-2" / "optimizer").write_bytes(b"o" * 5)
    (paused / "notes.txt").write_bytes(b"n" * 7)
    said = lines(cron("reconcile", "--record", "--orphans-older-than", "0"))
    assert {one["kind"]: (one["level"], one["uri"]) for one in said[:-1]} == {
        "missing": ("WARNING", (paused / "trial-1").as_uri()),
        "resized": ("WARNING", (paused / "trial-2").as_uri()),
        "orphan": ("INFO", (paused / "notes.txt").as_uri()),
    }
    (resized,) = (one for one in said if one.get("kind") == "resized")
    assert resized["message"].endswith("/trial-2 has another size: 105 bytes, and the log says 100")
    assert (resized["logged_bytes"], resized["found_bytes"], resized["is_recorded"]) == (100, 105, True)
    assert said[-1]["message"].startswith("reconcile: ")
    assert (said[-1]["missing"], said[-1]["resized"]) == (1, 1)
    shutil.rmtree(paused)
    ended = cron("reconcile")
    assert ended.code == 1
    assert [(one["level"], one["kind"]) for one in lines(ended)] == [("ERROR", "failed")]

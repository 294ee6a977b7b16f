"""Tables: what they say of odd names, and how they fit into a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import quota

if TYPE_CHECKING:
    from pathlib import Path

    from acceptance.commands import Run

ODD_IDS = ["[/foo]", "lr=[0.1]", "[red]1", ":smile:"]


def test_ids_that_look_like_markup_are_shown_as_they_are(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "scratch"
    with quota.connect("sqlite:///quota.db") as db:
        experiment = db.register_experiment(
            "exp[red]1", mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=3
        )
        for number, trial_id in enumerate(ODD_IDS):
            place = root / str(number)
            place.mkdir(parents=True)
            (place / "weights").write_bytes(b"w")
            experiment.trial_started(trial_id)
            experiment.checkpoint_saved(trial_id, location=place, size_bytes=1, resource=1)
            experiment.trial_paused(trial_id, level=1, metric=0.1)
    assert run("store", "add", str(root)).code == 0
    assert run("limit", "set", "--checkpoints", "1").code == 0
    assert run("limit", "set", "--checkpoints", "1", "-e", "[/x]").code == 0
    assert "exp[red]1" in run("experiment", "list").out
    assert "experiment:[/x]" in run("limit", "list").out
    shown = run("experiment", "show", "exp[red]1")
    assert "Experiment exp[red]1" in shown.out
    assert [trial_id for trial_id in ODD_IDS if trial_id not in shown.out] == []
    planned = run("plan").out
    assert run("sweep").code == 0
    evicted = run("evictions").out
    for trial_id in {row["trial_id"] for row in run("evictions", "--json").data}:
        assert trial_id in planned
        assert trial_id in evicted


def test_an_advice_with_brackets_is_shown_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    told = run("doctor", "--database", "postgresql://nobody@localhost/x")
    assert told.code == 1
    assert "pip install 'checkpoint-quota[postgresql]'" in told.out

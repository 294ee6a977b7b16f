"""Tables: what they say of odd names, and how they fit into a terminal."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quota
from acceptance.shells import in_terminal
from quota.cli.tables import shown, small
from quota.domain.planning import plan_experiment

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.commands import Run
    from quota.domain.plan import Plan

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


@pytest.fixture
def paused_trials(run: Run, paused: Path) -> Path:
    """Two paused trials of an experiment with a name of usual length, one of them evicted; returns their folder."""
    del paused
    with quota.connect("sqlite:///quota.db") as db:
        experiment = db.register_experiment(
            "resnet-asha", mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=3
        )
        for number in range(3):
            place = Path("scratch").absolute() / f"trial-{100 + number}"
            place.mkdir()
            (place / "weights").write_bytes(b"w" * 12_345)
            experiment.trial_started(f"{100 + number}")
            experiment.trial_reported(f"{100 + number}", resource=1, metric=float(number))
            experiment.checkpoint_saved(f"{100 + number}", location=place, size_bytes=12_345, resource=1)
            experiment.trial_paused(f"{100 + number}", level=1, metric=float(number))
    assert run("limit", "set", "--checkpoints", "2", "-e", "resnet-asha").code == 0
    return Path.cwd()


def table(folder: Path, *arguments: str) -> tuple[list[str], str]:
    """Return the columns that a command shows in a terminal of 80, and all that it says; no table is wider."""
    code, said = in_terminal(folder, 80, *arguments)
    assert code == 0, said
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said).replace("\r", "")
    lines = plain.splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith(" ───")]
    assert rules, plain
    for rule in rules:
        for line in [lines[rule - 1], *takewhile(str.strip, lines[rule:])]:
            assert len(line) <= 80, line
    return re.split(r" {2,}", lines[rules[-1] - 1].strip()), plain


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (["experiment", "list"], ["experiment", "running", "checkpoints", "limit", "exceeded", "stored", "in trash"]),
        (["experiment", "show", "resnet-asha"], ["trial", "status", "state", "size", "resource", "pinned", "uri"]),
        (["plan"], ["experiment", "trial", "reason", "p resume", "seconds lost", "size", "uri"]),
        (["evictions"], ["trial", "outcome", "uri", "decision"]),
        (["limit", "list"], ["scope", "counts", "used", "limit", "exceeded", "most of it"]),
    ],
)
def test_a_table_fits_into_a_usual_terminal(
    run: Run, paused_trials: Path, arguments: list[str], columns: list[str]
) -> None:
    if arguments == ["evictions"]:
        assert run("sweep").code == 0
    shown, said = table(paused_trials, *arguments)
    assert shown == columns
    assert "left out: " in said
    assert "--json or a wider terminal shows them\n" in said
    if "uri" in columns:
        assert f"uri: below {(paused_trials / 'scratch').as_uri()}/\n" in said
        assert re.search(r"  trial-102( |\n)", said)
    assert paused_trials.as_uri() in run(*arguments).out or "uri" not in columns


def test_what_is_hardly_anything_is_said_to_be_that(run: Run, paused: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paused.is_dir()
    for value, text in ((0.0, "0"), (0.00004, "<0.0001"), (0.25, "0.25"), (None, "-")):
        assert shown(small(value)) == text
    monkeypatch.setattr("quota.services.planning.plan_experiment", _unlikely(plan_experiment))
    assert "  <0.0001  " in run("plan").out


def _unlikely(plan: Callable[..., list[Plan]]) -> Callable[..., list[Plan]]:
    def planned(*arguments: object) -> list[Plan]:
        return [
            replace(made, evictions=tuple(replace(one, score=1e-9, cost_seconds=1e-9) for one in made.evictions))
            for made in plan(*arguments)
        ]

    return planned


def test_evictions_can_be_chosen_by_trial_and_sweep(run: Run, paused_trials: Path) -> None:
    assert paused_trials.is_dir()
    first = run("sweep", "-e", "asha", "--json").data["sweep_id"]
    assert run("sweep", "-e", "resnet-asha").code == 0
    assert [row["trial_id"] for row in run("evictions", "--sweep", first, "--json").data] == ["2"]
    assert [row["trial_id"] for row in run("evictions", "--trial", "102", "--json").data] == ["102"]
    assert run("evictions", "--trial", "102", "--sweep", first).out == "no evictions\n"


def test_evictions_say_where_and_what_the_store_said_and_whose_it_was(run: Run, paused: Path) -> None:
    (paused / "trial-2").rename(paused / "elsewhere")
    (paused / "trial-2").symlink_to("elsewhere")
    (paused / "orphan").mkdir()
    (paused / "orphan" / "weights").write_bytes(b"w")
    assert run("sweep").code == 1
    assert run("reconcile", "--trash-orphans", "--orphans-older-than", "0").code == 0
    shown = run("evictions").out
    (failed,) = run("evictions", "--outcome", "failed", "--json").data
    assert f"{failed['decision_id']} failed: {failed['error']}\n" in shown
    assert (paused / "trial-2").as_uri() in shown
    for row in run("evictions", "-e", "_orphans", "--json").data:
        assert row["trial_id"] not in shown
    assert re.search(r"_orphans +- +orphan ", shown)

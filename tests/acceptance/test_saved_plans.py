"""Saving a plan, reading it, and applying it, on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import quota
from acceptance.readme import block
from acceptance.test_limits import unboxed
from quota.bootstrap import services
from quota.domain.events import PolicyParameters
from quota.services.sweep_order import SweepOrder

if TYPE_CHECKING:
    from collections.abc import Callable

    from acceptance.commands import Run

SAVED = "saved; once read, apply it with: ckpt-quota sweep --plan plan.json\n"


@pytest.fixture
def plan(run: Run, paused: Path) -> Path:
    """Return the file of a saved plan that lets trial 2's checkpoint go."""
    assert paused.is_dir()
    told = run("plan", "--save", "plan.json")
    assert (told.code, told.err) == (0, "")
    assert told.out.endswith(SAVED)
    return Path("plan.json")


def test_what_the_readme_shows(paused: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["/bin/sh", "-eu", "-c", block("saved-plan")], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(
        "1 evicted into the trash, which keeps them for up to 1h; 0 purged, 0 B freed; 0 failed, 0 cancelled\n"
    )
    assert (paused / "trial-1").is_dir()
    assert not (paused / "trial-2").exists()


def test_a_plan_says_all_that_goes_and_where_it_was_made(run: Run, plan: Path, paused: Path) -> None:
    saved = json.loads(plan.read_text())
    (limit,) = saved["limits"]
    assert (limit["scope"], limit["measure"], limit["high"], limit["low"]) == ("experiments", "checkpoints", 1, 1)
    (part,) = limit["parts"]
    (eviction,) = part["evictions"]
    planned = run("plan", "--json").data["plans"][0]["evictions"][0]
    assert eviction == {
        "trial_id": "2",
        "uri": (paused / "trial-2").as_uri(),
        "checkpoint_position": planned["saved_position"],
        "reason": "paused",
        "size_bytes": 100,
        "cost_seconds": planned["cost_seconds"],
    }
    assert saved["experiment_ids"] == ["asha"]
    assert saved["heads"] == [
        {name: head[name] for name in ("experiment_id", "position", "hash")}
        for head in sorted(run("audit", "head", "--json").data, key=lambda head: head["experiment_id"] != "_deployment")
    ]
    assert run("sweep", "--plan", "plan.json", "--dry-run", "--json").data["totals"][0]["evictions"] == 1
    assert (paused / "trial-2").is_dir()
    assert run("sweep", "--plan", "plan.json", "--json").data["not_taken"] == []
    exported = [json.loads(line) for line in run("audit", "export", "_deployment").out.splitlines()]
    (started,) = [event["data"] for event in exported if event["type"] == "sweep_started"]
    assert started["plan_made_at"] == saved["made_at"]
    assert started["plan_sha256"] == sha256(plan.read_bytes()).hexdigest()


def test_a_file_is_replaced_only_where_that_is_said(run: Run, plan: Path) -> None:
    first = plan.read_text()
    refused = run("plan", "--save", "plan.json")
    assert (refused.code, refused.out) == (2, "")
    assert "something is there already; name another file, or replace it with --force" in refused.err
    assert plan.read_text() == first
    assert run("plan", "--save", "plan.json", "--force", "--json").data["totals"] != []
    assert json.loads(plan.read_text())["made_at"] > json.loads(first)["made_at"]
    assert "it replaces the file that --save names" in unboxed(run("plan", "--force"))
    for place in ("nowhere/plan.json", "scratch"):
        told = run("plan", "--save", place, "--force")
        assert (told.code, told.out) == (2, "")
        assert "it cannot be written: " in told.err
    assert sorted(path.name for path in Path.cwd().iterdir() if "plan" in path.name) == ["plan.json"]


def test_a_plan_that_is_left_in_the_middle_leaves_no_file(
    run: Run, paused: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paused.is_dir()

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    assert "No space left on device" in run("plan", "--save", "plan.json").err
    assert [path for path in Path.cwd().iterdir() if "plan" in path.name] == []


@pytest.mark.parametrize(
    "option", [["-e", "asha"], ["--policy", "by_level"], ["--seed", "0"], ["--retry-forbidden"]], ids=lambda one: one[0]
)
def test_what_the_plan_says_is_not_said_again(run: Run, plan: Path, paused: Path, option: list[str]) -> None:
    refused = run("sweep", "--plan", str(plan), *option)
    assert (refused.code, refused.out) == (2, "")
    assert f"the saved plan says what is swept, and how; leave out {option[0]}" in unboxed(refused)
    assert (paused / "trial-2").is_dir()


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def rewritten(text: str) -> str:
        plan = json.loads(text)
        change(plan)
        return json.dumps(plan)

    return rewritten


def in_eviction(**fields: object) -> Callable[[str], str]:
    return changed(lambda plan: plan["limits"][0]["parts"][0]["evictions"][0].update(fields))


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda _: "", "it holds no whole plan: "),
    "truncated": (lambda text: text[: len(text) // 2], "it holds no whole plan: "),
    "damaged": (lambda text: text.replace('"limits":', '"limits"'), "it holds no whole plan: "),
    "no object": (lambda _: "[]", "field `format` is None: it holds no plan of format 1"),
    "deep": (lambda _: "[" * 100_000, "it holds no whole plan: "),
    "format": (changed(lambda plan: plan.update(format=2)), "field `format` is 2: it holds no plan of format 1"),
    "format as text": (changed(lambda plan: plan.update(format="1")), "field `format` is '1': it holds no plan of"),
    "unknown field": (changed(lambda plan: plan.update(more=1)), "field `more` is 1: no such field"),
    "unknown below": (in_eviction(more=1), "field `limits[0].parts[0].evictions[0].more` is 1: no such field"),
    "missing field": (changed(lambda plan: plan.pop("heads")), "field `heads` is None: this field is missing"),
    "number": (in_eviction(size_bytes="100"), "evictions[0].size_bytes` is '100': expected `int`, got `str`"),
    "negative": (in_eviction(checkpoint_position=-1), "evictions[0].checkpoint_position` is -1: expected `int` >= 0"),
    "reason": (in_eviction(reason="whim"), "evictions[0].reason` is 'whim': invalid enum value"),
    "time without a zone": (changed(lambda plan: plan.update(made_at="2026-01-01T00:00:00")), "field `made_at`"),
    "time at the end": (changed(lambda plan: plan.update(made_at="9999-12-31T00:00:00Z")), "field `made_at`"),
    "hash": (changed(lambda plan: plan["heads"][0].update(hash="beef")), "field `heads[0].hash` is 'beef'"),
    "no head": (changed(lambda plan: plan["heads"].pop()), "these are not _deployment and each of the experiments"),
    "odd id": (changed(lambda plan: plan.update(experiment_ids=["a\0"])), "field `experiment_ids` is "),
    "policy": (
        changed(lambda plan: plan["parameters"].update(policy="whim")),
        "field `parameters.policy` is 'whim': invalid enum value",
    ),
    "seed": (changed(lambda plan: plan["parameters"].update(seed=1)), "field `parameters.seed` is 1"),
}


@pytest.mark.parametrize(("spoil", "said"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_plan_is_refused(
    run: Run, plan: Path, paused: Path, spoil: Callable[[str], str], said: str
) -> None:
    plan.write_text(spoil(plan.read_text()))
    refused = run("sweep", "--plan", str(plan))
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("ckpt-quota: saved plan")
    assert said in refused.err
    assert "; make it with: ckpt-quota plan --save FILE" in refused.err
    assert (paused / "trial-2").is_dir()


@pytest.mark.parametrize(
    ("file", "said"), [("nowhere.json", "No such file"), ("scratch", "Is a directory"), ("a\0", "cannot be read")]
)
def test_a_file_that_cannot_be_read_is_refused(run: Run, plan: Path, file: str, said: str) -> None:
    assert plan.is_file()
    refused = run("sweep", "--plan", file)
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err
    plan.write_bytes(b"\xff\xfe\x00")
    assert run("sweep", "--plan", str(plan)).code == 2


def test_a_plan_that_was_edited_is_stale(run: Run, plan: Path, paused: Path) -> None:
    other = (paused / "trial-1").as_uri()
    plan.write_text(in_eviction(uri=other, trial_id="1")(plan.read_text()))
    refused = run("sweep", "--plan", str(plan))
    assert (refused.code, refused.out) == (1, "")
    assert f"checkpoint {other} of trial 1 of experiment asha would not go any more: " in refused.err
    assert "trial-2 of trial 2 of experiment asha would go, too, as paused (100 bytes) for the limit on" in refused.err
    assert sorted(path.name for path in paused.iterdir()) == [".trash", "trial-1", "trial-2"]


def test_a_stale_plan_says_what_differs(run: Run, plan: Path, paused: Path) -> None:
    with quota.connect("sqlite:///quota.db") as db:
        assert db.experiment("asha").resume_trial("2", level=1) is not None
    assert run("limit", "set", "--checkpoints", "2", "--low", "1").code == 0
    place = (paused / "trial-2").as_uri()
    refused = run("sweep", "--plan", str(plan))
    assert (refused.code, refused.out) == (1, "")
    differences = [
        "limit on experiments, checkpoints: it is 2 (low 1) by now, and was 1",
        f"checkpoint {place} of trial 2 of experiment asha would not go any more: its trial was resumed",
    ]
    said = "".join(f"  {one}\n" for one in differences)
    assert refused.err == (
        f"ckpt-quota: saved plan plan.json is stale, so nothing was done:\n{said}"
        "read a new one, then apply that: ckpt-quota plan --save FILE --force\n"
    )
    told = json.loads(run("sweep", "--plan", str(plan), "--json").err)
    assert (told["error"], told["differences"]) == ("PlanStale", differences)
    assert run("sweep", "--plan", str(plan), "--dry-run").code == 1
    assert sorted(path.name for path in paused.iterdir()) == [".trash", "trial-1", "trial-2"]


def test_many_differences_are_counted(run: Run, paused: Path) -> None:
    with quota.connect("sqlite:///quota.db") as db:
        for number in range(12):
            experiment = db.register_experiment(
                f"x{number}", mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=3
            )
            for trial_id in ("1", "2"):
                place = paused / f"{number}-{trial_id}"
                place.mkdir()
                experiment.trial_started(trial_id)
                experiment.checkpoint_saved(trial_id, location=place, size_bytes=1, resource=1)
                experiment.trial_paused(trial_id, level=1, metric=float(trial_id))
        assert run("plan", "--save", "plan.json").code == 0
        for number in range(12):
            db.experiment(f"x{number}").resume_trial("2", level=1)
    refused = run("sweep", "--plan", "plan.json")
    assert refused.err.count("would not go any more") + refused.err.count("would go, too") == 10
    assert "  and 14 more; --json names them all\n" in refused.err


def test_settings_that_differ_make_a_plan_stale(run: Run, paused: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the command line asked for is in the file.
    assert run("plan", "--policy", "random", "--seed", "7", "--save", "plan.json").code == 0
    monkeypatch.setenv("QUOTA_MIN_AGE", "1m")
    refused = run("sweep", "--plan", "plan.json")
    assert refused.code == 1
    assert "  setting min_age_seconds: it is 60.0 by now, and was 0.0\n" in refused.err
    monkeypatch.delenv("QUOTA_MIN_AGE")
    monkeypatch.setenv("QUOTA_POLICY", "by_level")
    assert "  setting policy: it is by_level by now, and was expected-cost\n" in run("sweep", "--plan", "plan.json").err
    monkeypatch.delenv("QUOTA_POLICY")
    assert run("sweep", "--plan", "plan.json").code == 0
    (evicted,) = run("evictions", "--json").data
    assert evicted["policy"] == "random"
    assert len(list(paused.iterdir())) == 2


def test_a_plan_of_another_database_is_refused(run: Run, plan: Path, paused: Path) -> None:
    other = "sqlite:///other.db"
    assert run("db", "upgrade", "-d", other).code == 0
    refused = run("sweep", "--plan", str(plan), "-d", other)
    assert (refused.code, refused.out) == (1, "")
    assert "the log of asha has another event " in refused.err
    assert "this is another database, or an older copy of it" in refused.err
    assert (paused / "trial-2").is_dir()


def test_a_plan_is_not_passed_over_where_another_process_sweeps(run: Run, plan: Path, paused: Path) -> None:
    order = SweepOrder(PolicyParameters(), timedelta())
    with services("sqlite:///quota.db", "another") as others, others.sweeper.running(order):
        refused = run("sweep", "--plan", str(plan))
    assert (refused.code, refused.out) == (1, "")
    assert refused.err != ""
    assert (paused / "trial-2").is_dir()

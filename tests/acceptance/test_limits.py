"""Limits, reserves and pins by scope, as they are set, shown, refused and taken back on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import quota
from acceptance.commands import Answer, Run

TEAMS = {"bert": "nlp", "gpt": "nlp", "resnet": "vision", "vit": "vision", "wav": "speech"}


@pytest.fixture
def teams(run: Run, tmp_path: Path) -> Path:
    """Five experiments of three teams, each with two paused trials of 100 bytes; returns the store's root."""
    root = tmp_path / "scratch"
    root.mkdir()
    with quota.connect("sqlite:///quota.db") as db:
        for name, team in TEAMS.items():
            labels = {"team": team, "keep": "yes" if name == "vit" else "no"}
            experiment = db.register_experiment(
                name, mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=9, labels=labels
            )
            for trial_id in ("1", "2"):
                place = root / name / trial_id
                place.mkdir(parents=True)
                (place / "weights").write_bytes(b"w" * 100)
                experiment.trial_started(trial_id)
                experiment.checkpoint_saved(trial_id, location=place, size_bytes=100, resource=1)
                experiment.trial_paused(trial_id, level=1, metric=float(trial_id))
    assert run("store", "add", str(root)).code == 0
    return root


def set_limit(run: Run, *arguments: str) -> tuple[object, ...]:
    told = run("limit", "set", *arguments, "--json")
    assert (told.code, told.err) == (0, "")
    return tuple(told.data[name] for name in ("scope", "measure", "high", "low"))


def test_limits_are_written_as_people_write_them(run: Run, teams: Path) -> None:
    store = f"store:{teams.as_uri()}"
    assert set_limit(run, "--checkpoints", "9") == ("experiments", "checkpoints", 9, 9)
    assert set_limit(run, "--checkpoints", "9", "--low", "7", "-e", "bert") == ("experiment:bert", "checkpoints", 9, 7)
    assert set_limit(run, "--bytes", "1.5kB", "--scope", "label:team=nlp") == ("label:team=nlp", "bytes", 1500, 1500)
    assert set_limit(run, "--bytes", "2KiB", "--low", "1000", "--scope", "deployment") == (
        "deployment",
        "bytes",
        2048,
        1000,
    )
    assert set_limit(run, "--free", "5%", "--until", "10 %", "--scope", f"store:{teams}") == (
        store,
        "free_percent",
        5,
        10,
    )
    assert set_limit(run, "--free", "1MB", "--scope", f"{store}/bert") == (
        f"{store}/bert",
        "free_bytes",
        10**6,
        10**6,
    )


def test_what_is_set_is_said(run: Run, teams: Path) -> None:
    def said(*arguments: str) -> str:
        return run("limit", "set", *arguments).out

    assert said("--checkpoints", "1", "-e", "bert") == "experiment:bert: above 1 checkpoint, a sweep evicts down to 1\n"
    assert said("--bytes", "200GB", "--low", "180GB", "--scope", "deployment") == (
        "deployment: above 200.0 GB, a sweep evicts down to 180.0 GB\n"
    )
    assert said("--free", "30%", "--until", "40%", "--scope", f"store:{teams}") == (
        f"store:{teams.as_uri()}: with less than 30% free, a sweep evicts until 40% are\n"
    )


def test_limits_are_listed_with_what_is_used_and_by_whom(run: Run, teams: Path) -> None:
    set_limit(run, "--bytes", "500", "--scope", "deployment")
    set_limit(run, "--bytes", "400", "--scope", "label:team=nlp")
    set_limit(run, "--checkpoints", "1")
    set_limit(run, "--checkpoints", "2", "-e", "wav")
    set_limit(run, "--free", "1kB", "--scope", f"store:{teams}")
    names = ("scope", "measure", "used", "exceeded")
    listed = run("limit", "list", "--json").data
    assert [tuple(row[name] for name in names) for row in listed] == [
        ("experiment:wav", "checkpoints", 2, False),
        ("experiments", "checkpoints", 2, True),
        ("label:team=nlp", "bytes", 400, False),
        (f"store:{teams.as_uri()}", "free_bytes", 1_000, False),
        ("deployment", "bytes", 1_000, True),
    ]
    assert listed[2]["by"] == [{"experiment_id": "bert", "used": 200}, {"experiment_id": "gpt", "used": 200}]
    # The one that has a limit of its own is not among those that `experiments` holds for.
    assert [share["experiment_id"] for share in listed[1]["by"]] == ["bert", "gpt", "resnet", "vit"]
    assert 0 < listed[3]["free_bytes"] < listed[3]["total_bytes"]
    assert listed[0]["free_bytes"] is None
    shown = run("limit", "list").out
    assert "bert 200 B, gpt 200 B, resnet 200 B and 2 more" in shown
    assert " free " in shown


def test_a_disk_that_is_gone_is_told(run: Run, teams: Path) -> None:
    set_limit(run, "--free", "1kB", "--scope", f"store:{teams}")
    teams.rename(teams.with_name("elsewhere"))
    told = run("limit", "list")
    assert told.code == 0
    assert "nobody can tell what is free: " in told.err
    assert run("limit", "list", "--json").data[0]["exceeded"] is None
    assert "nobody can tell what is free: " in run("doctor").out


def test_limits_are_removed_one_by_one(run: Run, teams: Path) -> None:
    place = f"store:{teams}"
    set_limit(run, "--checkpoints", "9")
    set_limit(run, "--bytes", "9GB")
    set_limit(run, "--free", "5%", "--scope", place)
    set_limit(run, "--free", "5GB", "--scope", place)
    asked = run("limit", "remove")
    assert asked.code == 2
    assert "say which one goes" in asked.err
    assert run("limit", "remove", "--bytes").out == "experiments: no limit on bytes any more\n"
    assert run("limit", "remove").out == "experiments: no limit any more\n"
    assert run("limit", "remove", "--free", "--scope", place).out == f"store:{teams.as_uri()}: no limit any more\n"
    assert run("limit", "list", "--json").data == []
    gone = run("limit", "remove", "--bytes")
    assert (gone.code, gone.out) == (1, "")
    assert gone.err == (
        "ckpt-quota: limit of experiments: there is none on bytes; `ckpt-quota limit list` lists them\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["--bytes", "ten"],
            2,
            "limit of experiments: field `bytes` is 'ten': write a number and a unit: 500MB, 200GB",
        ),
        (["--bytes", "0"], 2, "limit of experiments: field `high` is 0: expected `int` >= 1"),
        (
            ["--bytes", "9GB", "--low", "10GB"],
            2,
            "the low watermark must not be above the high one, which is 9000000000",
        ),
        (
            ["--bytes", "9GB", "--low", "90%"],
            2,
            "limit of experiments: field `low` is '90%': write a number and a unit",
        ),
        (["--checkpoints", "9", "--low", "0"], 2, "field `low` is 0: expected `int` >= 1"),
        (["--checkpoints", "9", "--low", "-1"], 2, "field `low` is '-1': write a whole number: 20"),
        (["--checkpoints", "9", "--bytes", "9GB"], 2, "by one of --checkpoints N, --bytes SIZE and"),
        (["--checkpoints", "9", "--scope", "team=nlp"], 2, "field `scope` is 'team=nlp': a scope is one of"),
        (["--checkpoints", "9", "--scope", "label:team"], 2, "a label is written `label:<key>=<value>`"),
        (["--checkpoints", "9", "--scope", "deployment", "-e", "bert"], 2, "give one of --scope and"),
        (["--free", "30%"], 2, "--scope store:ROOT"),
        (["--free", "30%", "--scope", "deployment"], 2, "a limit on free space is for `store:<uri>`"),
        (["--free", "30%", "--scope", "store:/nowhere"], 1, "this place is no store and lies in none"),
        (["--free", "half", "--scope", "store:scratch"], 2, "field `free` is 'half': write whole per cents or a size"),
        (["--free", "12.5%", "--scope", "store:scratch"], 2, "field `free` is '12.5%': write whole per cents: 30%"),
        (["--free", "100%", "--scope", "store:scratch"], 2, "field `high` is 100: at most 99 per cent"),
        (["--free", "30%", "--until", "20%", "--scope", "store:scratch"], 2, "must not be below what has to stay free"),
        (["--free", "30%", "--until", "50GB", "--scope", "store:scratch"], 2, "is '50GB': write whole per cents: 30%"),
    ],
)
def test_what_is_refused(run: Run, teams: Path, arguments: list[str], code: int, said: str) -> None:
    assert teams.name == "scratch"
    refused = run("limit", "set", *arguments)
    assert (refused.code, refused.out) == (code, "")
    assert said in unboxed(refused)
    assert run("limit", "list", "--json").data == []


def unboxed(answer: Answer) -> str:
    """Return what was said without the frame that Typer puts around it."""
    return " ".join(answer.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("label:team=robots", "no experiment is labelled team=robots yet; the limit holds once one is"),
        ("experiment:later", "no experiment later is registered yet; the limit holds once it is"),
        (
            "store:/elsewhere",
            "file:///elsewhere lies in no store, so nothing there is evicted; allow it: ckpt-quota store",
        ),
    ],
)
def test_what_may_be_misspelled_is_said_and_set(run: Run, teams: Path, scope: str, said: str) -> None:
    assert teams.is_dir()
    told = run("limit", "set", "--bytes", "1GB", "--scope", scope)
    assert told.code == 0
    assert said in told.err
    assert len(run("limit", "list", "--json").data) == 1


def test_reserves(run: Run, teams: Path) -> None:
    assert teams.is_dir()
    told = run("reserve", "set", "--checkpoints", "3", "--scope", "label:team=nlp")
    assert told.out == "label:team=nlp: keeps 3 checkpoints, whatever limits that experiments share ask for\n"
    assert run("reserve", "set", "--bytes", "1kB", "-e", "wav", "--json").data == {
        "scope": "experiment:wav",
        "measure": "bytes",
        "amount": 1_000,
    }
    rows = run("reserve", "list", "--json").data
    assert [(row["scope"], row["measure"], row["amount"], row["stored"]) for row in rows] == [
        ("experiment:wav", "bytes", 1_000, 200),
        ("label:team=nlp", "checkpoints", 3, 4),
    ]
    assert "3 checkpoints" in run("reserve", "list").out
    assert run("reserve", "remove", "-e", "wav").out == "experiment:wav: no reserve of bytes any more\n"
    assert run("reserve", "remove", "--checkpoints", "--scope", "label:team=nlp").code == 0
    assert run("reserve", "list").out == (
        "no reserves; set one with: ckpt-quota reserve set --scope label:KEY=VALUE --checkpoints 5\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["set", "--checkpoints", "3"], 2, "say what it is for"),
        (["set", "-e", "bert"], 2, "by one of --checkpoints N and --bytes SIZE"),
        (["set", "--checkpoints", "3", "--scope", "deployment"], 2, "a reserve is for `experiment:<id>` or `label:"),
        (
            ["set", "--bytes", "0", "-e", "bert"],
            2,
            "reserve of experiment:bert: field `amount` is 0: expected `int` >= 1",
        ),
        (["set", "--bytes", "much", "-e", "bert"], 2, "reserve of experiment:bert: field `bytes` is 'much'"),
        (["remove", "-e", "bert"], 1, "there is none on checkpoints; `ckpt-quota reserve list` lists them"),
    ],
)
def test_reserves_that_are_refused(run: Run, teams: Path, arguments: list[str], code: int, said: str) -> None:
    assert teams.is_dir()
    refused = run("reserve", *arguments)
    assert (refused.code, refused.out) == (code, "")
    assert said in unboxed(refused)


def test_pins_by_scope(run: Run, teams: Path) -> None:
    assert teams.is_dir()
    told = run("pin", "--scope", "label:keep=yes")
    assert (told.out, told.err) == ("label:keep=yes is pinned: none of its checkpoints is evicted\n", "")
    assert run("pin", "--scope", "label:keep=yes").code == 0
    assert run("pin", "bert", "1").code == 0
    found = run("pin", "--list", "--json").data
    assert [pin["scope"] for pin in found["scopes"]] == ["label:keep=yes"]
    assert [(row["experiment_id"], row["trial_id"]) for row in found["checkpoints"]] == [("bert", "1")]
    # Pinned again, it was pinned before.
    assert run("audit", "export", "_deployment").out.count("scope_pinned") == 1
    assert "label:keep=yes" in run("pin", "--list").out
    shown = run("experiment", "show", "vit", "--json").data["checkpoints"]
    assert {row["pinned_scope"] for row in shown} == {"label:keep=yes"}
    assert run("unpin", "--scope", "label:keep=yes").code == 0
    assert run("unpin", "bert", "1").code == 0
    listed = run("pin", "--list").out
    assert "no scope is pinned" in listed
    assert "no checkpoint is pinned by hand" in listed


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pin", "--scope", "experiments"], 2, "pin of experiments: field `scope` is 'experiments': a pin is for"),
        (["pin", "bert"], 2, "name an experiment and its trial, or give a --scope"),
        (["pin", "bert", "1", "--scope", "deployment"], 2, "give either a scope, or an experiment and its trial"),
        (["pin", "--list", "bert"], 2, "it lists all that is pinned"),
        (["unpin", "--scope", "deployment"], 1, "pin of deployment: there is none; `ckpt-quota pin --list` lists them"),
    ],
)
def test_pins_that_are_refused(run: Run, teams: Path, arguments: list[str], code: int, said: str) -> None:
    assert teams.is_dir()
    refused = run(*arguments)
    assert (refused.code, refused.out) == (code, "")
    assert said in unboxed(refused)

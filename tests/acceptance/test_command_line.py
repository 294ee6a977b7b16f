"""The command line: what it does, its exit codes, and that whoever runs it never sees a traceback."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from acceptance.commands import Answer, Run

SWEPT = "1 evicted into the trash, which keeps them for up to 1h; 0 purged, 0 B freed; 0 failed, 0 cancelled\n"


def test_plan_and_dry_run_write_nothing(run: Run, paused: Path) -> None:
    before = run("audit", "head").out
    for arguments in (["plan"], ["sweep", "--dry-run"]):
        shown = run(*arguments)
        assert (shown.code, shown.err) == (0, "")
        assert "file://" in shown.out
        (plan,) = run(*arguments, "--json").data["plans"]
        assert [eviction["trial_id"] for eviction in plan["evictions"]] == ["2"]
    assert run("audit", "head").out == before
    assert sorted(path.name for path in paused.iterdir()) == [".trash", "trial-1", "trial-2"]


def test_sweep_evicts_and_restore_brings_back(run: Run, paused: Path) -> None:
    assert run("sweep") == Answer(0, SWEPT, "")
    assert run("sweep") == Answer(0, "", "")
    assert sorted(path.name for path in paused.iterdir()) == [".trash", "trial-1"]
    (eviction,) = run("evictions", "--json").data
    assert (eviction["trial_id"], eviction["outcome"], eviction["freed_bytes"]) == ("2", "trashed", 0)
    assert run("restore", eviction["decision_id"]).code == 0
    assert (paused / "trial-2" / "weights").read_bytes() == b"w" * 100
    again = run("restore", eviction["decision_id"])
    assert again.code == 1
    assert "only what is in the trash can be restored" in again.err


def test_pinned_checkpoints_leave_the_limit_exceeded(run: Run, paused: Path) -> None:
    for trial_id in ("1", "2"):
        assert run("pin", "asha", trial_id).code == 0
    swept = run("sweep")
    assert swept.code == 3
    assert "experiment asha is still above its limit: it holds 2 pinned\n" in swept.err
    assert run("sweep", "--json").data["exceeded"] == ["asha"]
    assert run("unpin", "asha", "1").code == 0
    assert run("sweep", "--trash-retention", "0").code == 0
    assert sorted(path.name for path in paused.iterdir() if path.name != ".trash") == ["trial-2"]
    assert [path.name for path in (paused / ".trash").iterdir()] == [".store"]


def test_store_that_refuses_makes_the_sweep_fail(run: Run, paused: Path) -> None:
    (paused / "trial-2" / "weights").unlink()
    (paused / "trial-2").rmdir()
    (paused / "trial-2").symlink_to("/")
    swept = run("sweep")
    assert swept.code == 1
    assert "failed: " in swept.err
    assert (paused / "trial-2").is_symlink()
    # The next best goes instead.
    assert not (paused / "trial-1").exists()


def test_seed_of_random_is_logged(run: Run, paused: Path) -> None:
    assert paused.exists()
    assert run("sweep", "--policy", "random", "--seed", "7").code == 0
    assert run("evictions", "--json").data[0]["policy"] == "random"
    refused = run("sweep", "--seed", "7")
    assert refused.code == 2
    assert "needs a seed, and no other policy takes one" in refused.err


@pytest.mark.parametrize("policy", ["by_level", "syne-tune"])
def test_policies(run: Run, paused: Path, policy: str) -> None:
    assert run("sweep", "--policy", policy).out == SWEPT
    assert not (paused / "trial-2").exists()


def test_what_people_look_at(run: Run, paused: Path) -> None:
    assert paused.exists()
    for arguments in (
        ["experiment", "list"],
        ["experiment", "show", "asha"],
        ["store", "list"],
        ["limit", "list"],
        ["evictions"],
        ["doctor"],
        ["db", "current"],
        ["rebuild", "--verify"],
        ["rebuild"],
        ["audit", "verify"],
        ["audit", "head"],
    ):
        shown = run(*arguments)
        assert (shown.code, shown.err) == (0, ""), arguments
        assert shown.out
        assert run(*arguments, "--json").data is not None
    assert run("experiment", "finish", "asha").code == 0
    assert run("limit", "remove").code == 0
    assert run("store", "remove", str(paused)).code == 0
    assert run("audit", "export", "_deployment").out.count("\n") == 4


def test_kept_heads_are_compared(run: Run, paused: Path) -> None:
    assert paused.exists()
    Path("heads").write_text(run("audit", "head").out)
    assert run("audit", "verify", "--heads", "heads").code == 0
    lines = Path("heads").read_text().splitlines()
    Path("heads").write_text("\n".join(f"{'0' * 64}{line[64:]}" for line in lines))
    found = run("audit", "verify", "--heads", "heads")
    assert found.code == 1
    assert "its hash is not the head's: the stream was rewritten" in found.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["plan"], 1, "there is none; make it with: ckpt-quota db upgrade"),
        (["plan", "--database", "mysql://x/y"], 2, "mysql is not supported"),
        (["plan", "--database", "nonsense"], 2, "this is no database URL"),
        (["sweep", "--trash-retention", "soon"], 2, "write a number and a unit"),
        (["sweep", "--policy", "best"], 2, "'best'"),
        (["run", "--lease-term", "soon"], 2, "field `lease_term` is 'soon'"),
        (["run", "--most-evictions", "0"], 2, "field `most_evictions` is 0"),
        (["run", "--most-evicted-bytes", "much"], 2, "field `most_evicted_bytes` is 'much'"),
        (["run", "--log-level", "loud"], 2, "field `log_level` is 'loud'"),
        (["limit", "set"], 2, "--checkpoints"),
        (["unknown"], 2, "unknown"),
        (["ingest", "missing.jsonl"], 1, "ckpt-quota db upgrade"),
    ],
)
def test_errors_are_messages(run: Run, arguments: list[str], code: int, message: str) -> None:
    answer = run(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "missing.jsonl"], "file missing.jsonl: there is none that can be read"),
        (["ingest", "."], "there is none that can be read"),
        (["ingest", "bad.jsonl"], "line 2 is 'hello': the line is no JSON"),
        (["experiment", "show", "nobody"], "experiment nobody: there is none; `ckpt-quota experiment list` lists them"),
        (["experiment", "finish", "nobody"], "experiment nobody: there is none"),
        (["plan", "-e", "nobody"], "experiment nobody: there is none"),
        (["pin", "asha", "99"], "trial 99 of asha: it has no checkpoint"),
        (
            ["restore", "019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10"],
            "there is none; `ckpt-quota evictions` lists them",
        ),
        (["restore", "nonsense"], "this is no decision's id; `ckpt-quota evictions` lists them"),
        (["limit", "remove", "-e", "asha"], "limit of experiment:asha: there is none"),
        (["limit", "set", "--checkpoints", "5", "--low", "6"], "must not be above the high one, which is 5"),
        (["store", "add", "missing"], "missing"),
        (["store", "add", "/"], "/"),
        (["store", "add", "gs://bucket/prefix/"], "no adapter is installed for this scheme; installed are: file, s3"),
        (["store", "remove", "/nowhere"], "store file:///nowhere: there is none"),
        (["audit", "export", "nobody"], "experiment nobody: there is none"),
        (["audit", "verify", "--heads", "missing"], "it cannot be read"),
    ],
)
def test_refusals_are_messages(run: Run, paused: Path, arguments: list[str], message: str) -> None:
    assert paused.exists()
    Path("bad.jsonl").write_text("\nhello\n")
    answer = run(*arguments)
    assert answer.code in {1, 2}
    assert message in answer.err
    told = json.loads(run(*arguments, "--json").err) if arguments[:2] != ["audit", "export"] else {"message": message}
    assert message in told["message"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["limit", "set", "--checkpoints", "0"], "--checkpoints"),
        (["limit", "set"], "--checkpoints"),
        (["evictions", "--outcome", "evicted"], "--outcome"),
        (["swep"], "swep"),
    ],
)
def test_wrong_usage_is_told_apart(run: Run, arguments: list[str], named: str) -> None:
    answer = run(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert named in answer.err


def test_version_and_help(run: Run) -> None:
    assert run("--version").out.startswith("ckpt-quota 0.")
    assert "sweep" in run("--help").out


def test_fault_of_ours_is_told_as_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quota.settings.load_settings", lambda **_: 1 / 0)
    answer = run("plan")
    assert answer.code == 1
    assert "this is a fault of ours: ZeroDivisionError" in answer.err
    assert "QUOTA_TRACEBACK=1" in answer.err


def test_doctor_names_what_keeps_it_from_working(run: Run) -> None:
    assert run("db", "upgrade").code == 0
    told = run("doctor")
    assert told.code == 1
    assert "ckpt-quota store add ROOT" in told.out
    assert "ckpt-quota limit set --checkpoints N" in told.out
    Path("quota.db").write_text("no database at all, but long enough to be looked at " * 100)
    for arguments in (["doctor"], ["plan"], ["db", "upgrade"]):
        told = run(*arguments)
        assert told.code == 1
        assert "file is not a database; look whether this is the right file" in told.out + told.err


def test_asking_for_the_revision_makes_no_database(run: Run) -> None:
    for options in ([], ["--json"]):
        told = run("db", "current", *options)
        assert (told.code, told.out) == (1, "")
        assert "there is none; make it with: ckpt-quota db upgrade --database sqlite:///quota.db" in told.err
    assert list(Path().iterdir()) == []


def test_a_database_of_something_else_is_left_alone(run: Run) -> None:
    with closing(sqlite3.connect("quota.db")) as other:
        other.execute("CREATE TABLE theirs (x)")
    for arguments in (["plan"], ["db", "upgrade"]):
        told = run(*arguments)
        assert told.code == 1
        assert "it holds tables of something else" in told.err
    with closing(sqlite3.connect("quota.db")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_checkpoint_that_was_never_written_is_told(run: Run, paused: Path) -> None:
    shutil.rmtree(paused / "trial-2")
    swept = run("sweep")
    assert f"missing: there is nothing at {(paused / 'trial-2').as_uri()}, where a trial has saved" in swept.err
    assert run("sweep").err == ""


def test_a_checkpoint_that_is_refused_is_recorded_as_failed(run: Run, paused: Path) -> None:
    (paused / "trial-2").rename(paused / "elsewhere")
    (paused / "trial-2").symlink_to("elsewhere")
    swept = run("sweep", "--json").data
    assert (swept["evicted"], swept["failed"]) == (1, 1)
    (failed,) = run("evictions", "--outcome", "failed", "--json").data
    assert failed["uri"] == (paused / "trial-2").as_uri()
    assert "it is a symbolic link" in failed["error"]
    assert (paused / "elsewhere").is_dir()


def test_reconcile_tells_what_differs_and_records_it(run: Run, paused: Path) -> None:
    assert run("reconcile").out == "2 files (200 B) compared with 2 checkpoints: no difference\n"
    shutil.rmtree(paused / "trial-1")
    (paused / "trial-2" / "optimizer").write_bytes(b"o" * 50)
    (paused / "notes.txt").write_bytes(b"n" * 7)
    shown = run("reconcile", "--orphans-older-than", "0")
    assert (shown.code, shown.err) == (0, "")
    for part in ("3 differences", "trial-1", "100 B", "150 B", "notes.txt", "ckpt-quota reconcile --record"):
        assert part in shown.out
    *findings, summary = [json.loads(line) for line in run("reconcile", "--json", "--record").out.splitlines()]
    assert [(one["kind"], one["is_recorded"]) for one in findings] == [
        ("young_orphan", False),
        ("missing", True),
        ("resized", True),
    ]
    assert summary["recorded"] == {"missing": 1, "resized": 1}
    assert "1 difference\n" in run("reconcile").out
    assert [row["state"] for row in run("experiment", "show", "asha", "--json").data["checkpoints"]] == [
        "missing",
        "stored",
    ]


def test_orphans_are_moved_to_the_trash_and_restored(run: Run, paused: Path) -> None:
    orphan = paused / "lost" / "weights"
    orphan.parent.mkdir()
    orphan.write_bytes(b"l" * 70)
    assert "1 difference" in run("reconcile", "--trash-orphans").out
    assert orphan.exists()
    shown = run("reconcile", "--trash-orphans", "--orphans-older-than", "0")
    assert (shown.code, shown.err) == (0, "")
    assert "1 orphan moved to the trash" in shown.out
    assert not orphan.exists()
    (trashed,) = run("evictions", "-e", "_orphans", "--json").data
    assert (trashed["reason"], trashed["outcome"], trashed["size_bytes"]) == ("orphan", "trashed", 70)
    assert run("restore", trashed["decision_id"]).code == 0
    assert orphan.read_bytes() == b"l" * 70
    listed = run("reconcile", "--trash-orphans", "--orphans-older-than", "0", "--json").out.splitlines()
    assert json.loads(listed[-1])["trashed"] == 1
    assert run("sweep", "--trash-retention", "0").code == 0
    assert [row["outcome"] for row in run("evictions", "-e", "_orphans", "--json").data] == ["purged", "restored"]
    assert not orphan.exists()
    assert run("audit", "verify").code == 0


def test_orphans_are_no_experiment(run: Run, paused: Path) -> None:
    assert run("limit", "set", "--bytes", "1TB", "--scope", "deployment").code == 0
    (paused / "lost").mkdir()
    (paused / "lost" / "weights").write_bytes(b"l" * 70)
    assert run("reconcile", "--trash-orphans", "--orphans-older-than", "0").code == 0
    assert "experiment:_orphans" not in run("plan").out
    listed = run("experiment", "list").out
    assert "_orphans " not in listed
    assert "70 B of orphans in the trash; see: ckpt-quota evictions -e _orphans\n" in listed
    assert " 1 experiment, and the views show" in " ".join(run("doctor").out.split())


def test_orphans_are_left_that_lie_beside_checkpoints(run: Run, paused: Path) -> None:
    state = paused / "trial-9" / "experiment_state.json"
    (paused / "trial-9" / "step-1").mkdir(parents=True)
    (paused / "trial-9" / "step-1" / "weights").write_bytes(b"w")
    saved = ("adopt", str(paused / "trial-9" / "step-1"), "--experiment", "asha", "--trial", "1", "--resource", "9")
    state.write_text("{}")
    assert run(*saved).code == 0
    shown = run("reconcile", "--trash-orphans", "--orphans-older-than", "0")
    assert (shown.code, shown.err) == (0, "")
    assert "moved to the trash" not in shown.out
    assert state.exists()


def test_orphans_are_left_that_links_lead_to(run: Run, paused: Path) -> None:
    (paused / "blobs").mkdir()
    weights = paused / "blobs" / "weights"
    weights.write_bytes(b"l" * 70)
    (next(paused.glob("trial-*")) / "linked").symlink_to("../blobs/weights")
    shown = run("reconcile", "--trash-orphans", "--orphans-older-than", "0")
    assert (shown.code, shown.err) == (0, "")
    assert "links in the store" in shown.out
    assert "moved to the trash" not in shown.out
    assert weights.exists()
    summary = run("reconcile", "--trash-orphans", "--orphans-older-than", "0", "--json").out.splitlines()[-1]
    assert (json.loads(summary)["trashed"], json.loads(summary)["linked"]) == (0, [(paused / "blobs").as_uri()])


def test_reconcile_fails_where_a_store_cannot_be_listed(run: Run, paused: Path) -> None:
    shutil.rmtree(paused)
    shown = run("reconcile", "--record")
    assert shown.code == 1
    assert "there is no such directory" in shown.err
    assert run("reconcile", "--store", "file:///elsewhere").code == 1


def test_restore_can_pin_at_once(run: Run, paused: Path) -> None:
    assert run("sweep").code == 0
    (evicted,) = run("evictions", "--json").data
    assert run("restore", evicted["decision_id"], "--pin").out.startswith(f"{evicted['uri']} is back and pinned")
    run("sweep")
    assert (paused / "trial-2").is_dir()


def test_heads_are_compared_as_json_too(run: Run, paused: Path) -> None:
    assert paused.exists()
    Path("heads").write_text(json.dumps(run("audit", "head", "--json").data))
    assert run("audit", "verify", "--heads", "heads").code == 0
    Path("heads").write_text("[1]")
    assert run("audit", "verify", "--heads", "heads").code == 2

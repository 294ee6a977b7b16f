"""`ckpt-quota audit export`, as an auditor runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

import quota
from quota.services.exporting import EXPORTED

if TYPE_CHECKING:
    from acceptance.commands import Run

pytestmark = pytest.mark.usefixtures("paused")


def test_events_go_out_in_the_wire_form_unless_told_otherwise(run: Run) -> None:
    lines = run("audit", "export").out.splitlines()
    own = run("audit", "export", "asha").out.splitlines()
    assert len(own) == 9
    assert lines == [*run("audit", "export", "_deployment").out.splitlines(), *own]
    assert set(json.loads(own[0])) == {"event_id", "experiment_id", "type", "schema_version", "occurred_at", "data"}
    rows = [json.loads(line) for line in run("audit", "export", "asha", "--format", "jsonl").out.splitlines()]
    assert [(row["position"], row["data"]) for row in rows] == [
        (at, json.loads(line)["data"]) for at, line in enumerate(own, start=1)
    ]


def test_heads_go_out_with_events_and_can_be_compared(run: Run) -> None:
    shown = run("audit", "export", "asha")
    assert shown.err.splitlines() == ["heads, to be kept elsewhere:", run("audit", "head").out.splitlines()[1]]
    assert run("audit", "export", "--heads", "heads", "-o", "events").err == "11 rows written to events\n"
    assert Path("heads").read_text() == run("audit", "head").out
    assert run("audit", "verify", "--heads", "heads").code == 0
    assert run("audit", "export", "--what", "quota_usage").err == ""


def test_all_that_there_is_comes_in_all_formats(run: Run) -> None:
    assert run("sweep").code == 0
    for what in EXPORTED:
        csv = run("audit", "export", "--what", what, "--format", "csv")
        assert (csv.code, csv.out.count("\n") > 1) == (0, True), what
        written = run("audit", "export", "--what", what, "--format", "parquet", "--output", f"{what}.parquet")
        assert (written.code, written.out) == (0, "")
        rows = duckdb.execute("SELECT count(*) FROM read_parquet($file)", {"file": f"{what}.parquet"}).fetchone()
        lines = run("audit", "export", "--what", what, "--format", "jsonl").out.splitlines()
        assert rows == (len(lines),) == (csv.out.count("\n") - 1,)
        assert f"{len(lines)} row" in written.err


def test_what_was_recorded_since_is_caught_up_with(run: Run) -> None:
    with quota.connect("sqlite:///quota.db") as db:
        db.experiment("asha").trial_stopped("1")
    rows = [json.loads(line) for line in run("audit", "export", "-w", "checkpoint_inventory").out.splitlines()]
    assert [row["trial_status"] for row in rows] == ["stopped", "paused"]


@pytest.mark.parametrize("form", ["wire", "jsonl", "csv", "parquet"])
@pytest.mark.parametrize("option", ["--output", "--heads"])
def test_nothing_is_overwritten(run: Run, form: str, option: str) -> None:
    Path("here").write_text("mine")
    Path("link").symlink_to("nowhere")
    others = ("--output", "new") if option == "--heads" else ()
    for name in ("here", "link"):
        refused = run("audit", "export", "--format", form, option, name, *others)
        assert (refused.code, refused.out) == (2, "")
        assert f"export: field `file` is '{name}': something is there already; name another file" in refused.err
    assert Path("here").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir() if "quota.db" not in path.name) == ["here", "link", "scratch"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--what", "nothing"], "there is no 'nothing'; there are events, decisions, eviction_history"),
        (["--format", "parquet"], "--output FILE"),
        (["--what", "decisions", "--format", "wire"], "only events have a wire form"),
        (["--what", "decisions", "--heads", "x"], "only events have chains"),
        (["asha", "--what", "sweep_history"], "rows of sweep_history belong to no such thing"),
        (["-o", "no/where"], "it cannot be written: No such file or directory"),
        (["-o", "a\0b"], "this is no name of a file"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, arguments: list[str], message: str) -> None:
    refused = run("audit", "export", *arguments)
    assert (refused.code, refused.out) == (2, "")
    # Typer folds long messages.
    assert message in " ".join(refused.err.replace("│", "").split())


def test_without_pyarrow_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused = run("audit", "export", "--format", "parquet", "--output", "x.parquet")
    assert refused.code == 2
    assert "it needs pyarrow; install it with: pip install 'checkpoint-quota[parquet]'" in refused.err
    assert not Path("x.parquet").exists()


def test_a_killed_export_leaves_no_file_of_that_name(run: Run, tmp_path: Path) -> None:
    assert run("audit", "head").code == 0
    # It waits in the middle, with half of the file written, until it is killed.
    script = """
import signal, sys
from quota.services import exporting
rows = exporting.wire_lines
def slowly(*arguments):
    for number, line in enumerate(rows(*arguments)):
        if number == 3:
            sys.stderr.write("half\\n")
            sys.stderr.flush()
            signal.pause()
        yield line
exporting.wire_lines = slowly
sys.argv = ["ckpt-quota", "audit", "export", "asha", "--output", "out"]
from quota.cli import main
main()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ}) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert not Path("out").exists()
    assert run("audit", "export", "asha", "--output", "out").code == 0
    assert Path("out").read_text().count("\n") == 9

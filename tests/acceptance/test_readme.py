"""What else the README shows, done as it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from acceptance.readme import block


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "QUOTA_DATABASE": f"sqlite:///{directory}/quota.db"}


def command(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "quota.cli", *arguments],
        cwd=directory,
        env=environment(directory),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_example(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command(tmp_path, "db", "upgrade")
    command(tmp_path, "store", "add", str(scratch))
    command(tmp_path, "limit", "set", "--checkpoints", "20")
    done = subprocess.run(
        [sys.executable, "-c", block("python-example")],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "load /scratch/hpo/trial-7\n"
    assert "resnet-asha" in command(tmp_path, "experiment", "list")
    assert command(tmp_path, "sweep") == ""
    exported = command(tmp_path, "audit", "export", "resnet-asha")
    (tmp_path / "events.jsonl").write_text(exported)
    assert command(tmp_path, "ingest", "events.jsonl") == "0 events stored, 6 were stored before\n"

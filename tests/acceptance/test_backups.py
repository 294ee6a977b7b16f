"""An older copy of the database, put back as docs/operations.md says."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import quota

if TYPE_CHECKING:
    from acceptance.commands import Run


def test_what_newer_sweeps_did_is_found_before_a_resume_rests_on_an_older_copy(run: Run, paused: Path) -> None:
    with closing(sqlite3.connect("quota.db")) as live:
        live.execute("VACUUM INTO 'copy.db'")
    assert run("audit", "verify", "--database", "sqlite:///copy.db").code == 0
    assert run("sweep").code == 0
    (evicted,) = run("evictions", "--json").data
    for suffix in ("", "-wal", "-shm"):
        Path(f"quota.db{suffix}").unlink(missing_ok=True)
    Path("copy.db").rename("quota.db")
    found = [json.loads(line) for line in run("reconcile", "--record", "--json").out.splitlines()][:-1]
    trashed = paused / ".trash" / evicted["decision_id"]
    assert {one["kind"]: (one["uri"], one["is_recorded"]) for one in found} == {
        "missing": ((paused / "trial-2").as_uri(), True),
        "orphan_in_trash": (trashed.as_uri(), False),
    }
    trashed.rename(paused / "trial-2")
    assert run("reconcile", "--record").code == 0
    with quota.connect("sqlite:///quota.db") as db:
        checkpoint = db.experiment("asha").resume_trial("2", level=1)
    assert checkpoint is not None
    assert checkpoint.path == paused / "trial-2"
    assert run("audit", "verify").code == 0
    root = paused.as_uri()
    for command in ("doctor", "sweep"):
        refused = run(command)
        assert refused.code == 1
        assert f"store add {root} --take-over" in "".join((refused.out + refused.err).split("\n"))

"""`ckpt-quota archive`, as an operator runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

import quota

if TYPE_CHECKING:
    from acceptance.commands import Run
    from s3_servers import S3Server


@pytest.fixture
def finished(run: Run, paused: Path) -> str:
    """The experiment `asha`, finished, with one decision, and nothing stored; returns the decision's id."""
    assert run("sweep", "--trash-retention", "0").code == 0
    shutil.rmtree(paused / "trial-1")
    assert run("reconcile", "--record").code in {0, 1}
    assert run("experiment", "finish", "asha").code == 0
    (decision,) = run("evictions", "--json").data
    return str(decision["decision_id"])


def test_events_leave_the_log_and_come_back(run: Run, finished: str) -> None:
    Path("heads").write_text(run("audit", "head").out)
    exported, early = run("audit", "export", "asha").out, run("audit", "export", "asha", "-f", "jsonl").out
    count = exported.count("\n")
    created = run("archive", "create", "asha", "--to", "archives", "--remove-events")
    uri = (Path.cwd() / "archives" / f"asha-{count}").as_uri()
    assert (created.code, created.out) == (0, f"{count} events of asha written and read back: {uri}\n")
    (listed,) = run("archive", "list", "--json").data
    assert (listed["experiment_id"], listed["position"], listed["uri"]) == ("asha", count, uri)
    assert listed["removed_at"] is not None

    audited = run("audit", "verify", "--heads", "heads")
    assert audited.code == 0
    said = (
        f"asha: its events lie in the archive {uri}; its head, event {count}, is what _deployment says; prove it with"
    )
    assert said in audited.out
    assert "0 of" not in audited.out
    proved = run("audit", "verify", "--heads", "heads", "--archives", "--jobs", "2")
    assert proved.code == 0
    assert "it was read, and its chain holds" in proved.out
    assert "1 of 1 decision recomputed to the last bit" in proved.out
    assert run("audit", "verify", "--archives", "--json").data["archived"] == {"asha": uri}

    rows = [json.loads(line) for line in early.splitlines()]
    Path("early").write_text(f"{rows[1]['hash']}  2  asha\n")
    told = run("audit", "verify", "--heads", "early")
    assert f"event {count}, is what _deployment says; the head that was kept, event 2, is compared with" in told.out
    Path("early").write_text(f"{'0' * 64}  2  asha\n")
    told = run("audit", "verify", "--heads", "early", "--archives")
    assert (told.code, "the hash of event 2 is not the one that was kept" in told.err) == (1, True)

    lies = (
        f"experiment asha: its events lie in the archive {uri}; bring them back with: ckpt-quota archive restore asha"
    )
    for command in (["explain", finished], ["rebuild", "asha"], ["experiment", "finish", "asha"]):
        refused = run(*command)
        assert (refused.code, lies in refused.err) == (1, True), command
    rebuilt = run("rebuild")
    assert (rebuilt.code, f"skipped, and its rows left as they are: {lies}" in rebuilt.err) == (0, True)
    assert run("rebuild", "--json").data["skipped"] == ["asha"]
    assert [one["decision_id"] for one in run("evictions", "--json").data] == [finished]
    assert run("experiment", "show", "asha").code == run("sweep").code == run("doctor").code == 0
    assert f"asha: its events are not in the log, but in the archive {uri}" in run("audit", "export").err

    restored = run("archive", "restore", "asha")
    assert (restored.code, restored.out) == (0, f"{count} events of asha put into the log: {uri}\n")
    assert run("audit", "export", "asha").out == exported
    assert "1 of 1 decision recomputed to the last bit" in run("audit", "verify", "--heads", "heads").out
    assert run("explain", finished).code == 0
    assert run("rebuild", "--verify").code == 0


def test_what_is_in_an_archive_can_be_asked_by_duckdb(run: Run, finished: str) -> None:
    assert run("archive", "create", "asha", "--to", "archives").code == 0
    docs = Path(__file__).parents[2] / "docs" / "archiving.md"
    (query,) = re.findall(r"```sql\n(.*?)```", docs.read_text(), re.DOTALL)
    rows = duckdb.execute(query.replace("/archive/hpo/", "archives/")).fetchall()
    assert [(row[0], str(row[1])) for row in rows] == [("asha", finished)]


def test_an_archive_is_verified_by_its_place_or_its_experiment(run: Run, finished: str) -> None:
    assert finished
    assert (
        "archive of asha: there is none; `ckpt-quota archive list` lists them" in run("archive", "verify", "asha").err
    )
    assert run("archive", "list").out.startswith("no archives yet")
    archive = run("archive", "create", "asha", "--to", "./archives", "--json").data
    place = f"archives/asha-{archive['position']}"
    assert run("archive", "verify", "asha").out == run("archive", "verify", f"./{place}").out
    told = run("archive", "verify", archive["uri"], "--json", "--database", "sqlite:///none.db").data
    assert (told["hash"], told["manifest_sha256"]) == (archive["head_hash"], archive["manifest_sha256"])
    content = Path(place, "events.parquet").read_bytes()
    Path(place, "events.parquet").write_bytes(content[:-1])
    refused = run("archive", "verify", "asha")
    assert (refused.code, refused.out) == (1, "")
    assert f"archive {archive['uri']}: file events.parquet: it is not what manifest.json says" in refused.err
    refused = run("archive", "remove-events", "asha")
    assert (refused.code, "file events.parquet" in refused.err) == (1, True)
    assert run("audit", "verify").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "nobody", "--to", "archives"], "experiment nobody: there is none"),
        (["create", "asha", "--to", "scratch/archives"], "where an archive would count as an orphan"),
        (["create", "asha", "--to", "gs://bucket/x/"], "archives lie in a directory (file:///…) or a bucket"),
        (["remove-events", "asha"], "there is none that is finished: ckpt-quota experiment finish asha"),
        (["restore", "asha"], "archive of asha: there is none"),
        (["restore", "./nowhere"], "file manifest.json: there is none"),
        (["verify", "./nowhere"], "file manifest.json: there is none"),
    ],
)
def test_refusals_are_messages(run: Run, paused: Path, arguments: list[str], message: str) -> None:
    assert paused.exists()
    refused = run("archive", *arguments)
    assert (refused.code in {1, 2}, refused.out) == (True, "")
    assert message in refused.err
    assert message in json.loads(run("archive", *arguments, "--json").err)["message"]


def test_without_pyarrow_it_says_what_to_install(run: Run, finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finished
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for arguments in (["create", "asha", "--to", "archives"], ["remove-events", "asha"], ["verify", "./x"]):
        refused = run("archive", *arguments)
        assert refused.code == 2
        assert "install it with: pip install 'checkpoint-quota[parquet]'" in refused.err


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "QUOTA_S3_ENDPOINT_URL"])
def test_a_bucket_is_reached_by_the_usual_variables(
    run: Run, finished: str, s3_server: S3Server, tmp_path: Path, variable: str
) -> None:
    assert finished
    bucket = s3_server.create_bucket("unversioned")
    known = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "QUOTA_"))}
    own = {name: value for name, value in s3_server.environment().items() if name.startswith("AWS_")}
    environment = known | own | {variable: s3_server.endpoint_url}
    command = [sys.executable, "-m", "quota.cli", "archive"]
    place = f"s3://{bucket}/long/kept"
    for arguments in (["create", "asha", "--to", place, "--remove-events"], ["verify", "asha"], ["restore", "asha"]):
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert f"s3://{bucket}/long/kept/asha-" in done.stdout
    assert run("audit", "verify").code == 0
    with quota.connect("sqlite:///quota.db") as db:
        db.experiment("asha").trial_stopped("1")


def test_a_bucket_that_cannot_be_reached_is_told(run: Run, finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finished
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    refused = run("archive", "create", "asha", "--to", "s3://unreachable/x/")
    assert refused.code == 1
    assert "archive s3://unreachable/x/asha-" in refused.err
    assert run("archive", "list").out.startswith("no archives yet")

"""What the README sets up for three teams on one disk and one bucket, done as it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

import quota
from acceptance.readme import block
from s3_servers import Kind, S3Server

TEAMS = {"vision": ("resnet", "vit"), "nlp": ("bert",), "speech": ("large-asha",)}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_server: S3Server) -> Path:
    """Name an empty database, the bucket's server, and the commands, as an administrator's shell has them."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("QUOTA_DATABASE", f"sqlite:///{tmp_path}/quota.db")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def told(script: str) -> str:
    done = subprocess.run(["/bin/sh", "-eu", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def record(disk: Path, bucket: str, server: S3Server) -> None:
    """Let each team's experiments pause two trials: one has 1,000 bytes on the disk, the other one in the bucket."""
    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    for experiment_id in chain(*TEAMS.values()):
        (disk / f"{experiment_id}-1").write_bytes(b"w" * 1_000)
        server.client.put_object(Bucket=name, Key=f"{prefix}{experiment_id}-2/weights", Body=b"w" * 1_000)
    with quota.connect() as db:
        for team, names in TEAMS.items():
            for name in names:
                labels = {"team": team} | ({"keep": "yes"} if name == "vit" else {})
                experiment = db.register_experiment(
                    name, mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=9, labels=labels
                )
                for trial_id, place in (("1", disk / f"{name}-1"), ("2", f"{bucket}{name}-2/")):
                    experiment.trial_started(trial_id)
                    experiment.trial_reported(trial_id, resource=1, metric=float(trial_id))
                    experiment.checkpoint_saved(trial_id, location=place, size_bytes=1_000, resource=1)
                    experiment.trial_paused(trial_id, level=1, metric=float(trial_id))


def test_quotas_for_three_teams(shell: Path, s3_server: S3Server, s3_buckets: dict[Kind, str]) -> None:
    bucket = f"s3://{s3_buckets['versioned']}/three-teams/"
    script = block("three-teams").replace("/scratch/hpo", str(shell)).replace("s3://bucket/hpo/", bucket)
    told("ckpt-quota db upgrade")
    record(shell, bucket, s3_server)

    said = told(script)
    assert "label:team=vision: above 2.0 TB, a sweep evicts down to 1.8 TB\n" in said
    assert "with less than 10% free, a sweep evicts until 15% are\n" in said
    limits = json.loads(told("ckpt-quota limit list --json"))
    assert [(row["scope"].replace(bucket, "BUCKET"), row["measure"], row["high"], row["used"]) for row in limits] == [
        ("experiment:large-asha", "checkpoints", 400, 2),
        ("experiments", "checkpoints", 100, 2),
        ("label:team=nlp", "bytes", 3 * 10**12, 2_000),
        ("label:team=speech", "bytes", 5 * 10**11, 2_000),
        ("label:team=vision", "bytes", 2 * 10**12, 4_000),
        *sorted(
            [
                ("store:BUCKET", "bytes", 5 * 10**12, 4_000),
                (f"store:{shell.as_uri()}", "free_percent", 10, 4_000),
            ],
            key=lambda row: -len(row[0].replace("BUCKET", bucket)),
        ),
    ]
    assert {row["exceeded"] for row in limits if row["measure"] != "free_percent"} == {False}
    assert [row["stored"] for row in json.loads(told("ckpt-quota reserve list --json"))] == [2_000]
    # All of it may be said again.
    told(script)
    assert json.loads(told("ckpt-quota pin --list --json"))["scopes"][0]["scope"] == "label:keep=yes"

    # Who has too much gives of its own; what is pinned, or promised, stays, and the sweep says so.
    for team in TEAMS:
        told(f"ckpt-quota limit set --scope label:team={team} --bytes 1kB")
    swept = subprocess.run(["ckpt-quota", "sweep"], capture_output=True, text=True, check=False)  # noqa: S607 - as cron
    assert (swept.returncode, swept.stdout) == (
        3,
        "3 evicted into the trash, which keeps them for up to 1h; 3 purged, 3.0 kB freed; 0 failed, 0 cancelled\n",
    )
    assert {
        row["scope"]: row["used"] for row in json.loads(told("ckpt-quota limit list --json")) if row["exceeded"]
    } == {
        "label:team=speech": 2_000,
        "label:team=vision": 2_000,
    }
    assert sorted(path.name for path in shell.iterdir()) == [".trash", "bert-1", "large-asha-1", "vit-1"]
    gone = json.loads(told("ckpt-quota evictions --json"))
    assert {(row["experiment_id"], row["limit_scope"], row["limit_measure"], row["outcome"]) for row in gone} == {
        ("bert", "label:team=nlp", "bytes", "purged"),
        ("resnet", "label:team=vision", "bytes", "purged"),
    }

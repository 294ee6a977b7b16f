"""What else the README shows, done as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from typer.core import TyperGroup
from typer.main import get_command

import quota
from acceptance.readme import README, block
from quota.cli.app import app as cli

RIGHTS = {
    "abort_multipart_upload": {"s3:AbortMultipartUpload"},
    "complete_multipart_upload": {"s3:PutObject"},
    "create_multipart_upload": {"s3:PutObject"},
    "upload_part_copy": {"s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"},
    "copy_object": {"s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"},
    "delete_object": {"s3:DeleteObject", "s3:DeleteObjectVersion"},
    "delete_objects": {"s3:DeleteObject", "s3:DeleteObjectVersion"},
    "get_bucket_versioning": {"s3:GetBucketVersioning"},
    "get_object": {"s3:GetObject"},
    "head_object": {"s3:GetObject"},
    "list_multipart_uploads": {"s3:ListBucketMultipartUploads"},
    "list_object_versions": {"s3:ListBucketVersions"},
    "list_objects_v2": {"s3:ListBucket"},
    "put_object": {"s3:PutObject"},
}
"""By S3's reference, what each request needs."""


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


def example(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the example as it is, but for where the checkpoints go."""
    script = block("python-example").replace("/scratch/hpo", str(directory / "scratch"))
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory,
        env=environment(directory),
        capture_output=True,
        text=True,
        check=False,
    )


def test_python_example(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command(tmp_path, "db", "upgrade")
    command(tmp_path, "store", "add", str(scratch))
    command(tmp_path, "limit", "set", "--checkpoints", "20")
    done = example(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"load {scratch}/trial-7\n"
    assert "resnet-asha" in command(tmp_path, "experiment", "list")
    (checkpoint,) = json.loads(command(tmp_path, "experiment", "show", "resnet-asha", "--json"))["checkpoints"]
    assert checkpoint["size_bytes"] == 1_200_000
    assert command(tmp_path, "reconcile").endswith("compared with 1 checkpoint: no difference\n")
    assert command(tmp_path, "sweep") == ""
    exported = command(tmp_path, "audit", "export", "resnet-asha")
    (tmp_path / "events.jsonl").write_text(exported)
    assert command(tmp_path, "ingest", "events.jsonl") == "0 events stored, 6 were stored before\n"
    # The README says so, and what to do.
    again = example(tmp_path)
    assert again.returncode == 1
    assert "trial_started of trial 7 of experiment resnet-asha" in again.stderr


def test_errors_that_it_names_are_there_and_all_are_named() -> None:
    named = set(re.findall(r"`quota\.([A-Z]\w+)`", README.read_text()))
    errors = {
        name
        for name in quota.__all__
        if isinstance(found := getattr(quota, name), type) and issubclass(found, Exception)
    }
    assert named == errors


def test_commands_that_it_names_are_there() -> None:
    docs = README.parent / "docs"
    pages = [README, *(docs / f"{name}.md" for name in ("operations", "limits", "exporting", "archiving"))]
    text = "".join(page.read_text() for page in pages)
    app = get_command(cli)
    assert isinstance(app, TyperGroup)
    for path in sorted(
        set(re.findall(r"ckpt-quota ((?:db|store|limit|reserve|experiment|audit) [a-z-]+|[a-z]+)", text))
    ):
        words = path.split()
        found = app.commands[words[0]]
        if len(words) > 1:
            assert isinstance(found, TyperGroup)
            assert words[1] in found.commands, path


def test_the_policy_for_a_bucket_names_every_request_that_is_made() -> None:
    operations = Path(__file__).parents[2] / "docs" / "operations.md"
    policy = json.loads(block("iam-policy", operations))
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    source = "".join(path.read_text() for path in (operations.parents[1] / "adapters" / "quota_s3").glob("*.py"))
    asked = set(re.findall(r"client\.(?!meta|get_paginator)([a-z_0-9]+)\(", source))
    asked |= set(re.findall(r"get_paginator\(\"([a-z_0-9]+)", source))
    assert asked == set(RIGHTS)
    assert {right for rights in RIGHTS.values() for right in rights} == allowed

"""What else the README shows, done as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from acceptance.readme import block

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


def test_the_policy_for_a_bucket_names_every_request_that_is_made() -> None:
    operations = Path(__file__).parents[2] / "docs" / "operations.md"
    policy = json.loads(block("iam-policy", operations))
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    source = "".join(path.read_text() for path in (operations.parents[1] / "adapters" / "quota_s3").glob("*.py"))
    asked = set(re.findall(r"client\.(?!meta|get_paginator)([a-z_0-9]+)\(", source))
    asked |= set(re.findall(r"get_paginator\(\"([a-z_0-9]+)", source))
    assert asked == set(RIGHTS)
    assert {right for rights in RIGHTS.values() for right in rights} == allowed

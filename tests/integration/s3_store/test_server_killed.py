"""The server is killed in the middle of a sweep, and started again: every claim ends, and nothing else is gone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

import quota
import quota_s3.store
from quota.bootstrap import open_store
from quota.cli import main
from quota.domain.events import PolicyParameters
from quota.services.sweep_order import SweepOrder
from s3_servers import s3_process
from support import HandClock, services_over

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

    from quota_s3.settings import BucketSettings
    from s3_servers import Kind, S3Process

FILES = {f"part-{number:02}": bytes(number + 1) for number in range(30)}
TRIALS = ("1", "10", "2", "3")
CANARIES = ("hpo/trial-1.txt", "hpo/trial-100/part-00", "hpo-2/trial-1/part-00")
# Trials 10 and 3 go, and `trial-1` and `trial-10` begin alike.
METRICS = {"1": 0.1, "2": 0.2, "3": 0.3, "10": 0.4}


@pytest.fixture(scope="module")
def running() -> Iterator[S3Process]:
    with s3_process() as process:
        yield process


class Killer:
    """Kills the server at the n-th request that changes anything, when it has been answered, or before it is sent."""

    def __init__(self, running: S3Process, at: int, *, is_answered: bool) -> None:
        self._running = running
        self._left = at
        self._is_answered = is_answered
        self.has_killed = False

    def __call__(self, request: AWSPreparedRequest, **_: object) -> None:
        if self.has_killed or not _changes(request):
            return
        self._left -= 1
        if self._left:
            return
        self.has_killed = True
        if self._is_answered:
            URLLib3Session().send(request)
        self._running.kill()
        raise ConnectionClosedError(endpoint_url=request.url or "")


def _changes(request: AWSPreparedRequest) -> bool:
    return request.method in {"PUT", "DELETE", "POST"}


@pytest.fixture
def bucket(running: S3Process, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> str:
    assert running.runs or running.start()
    for name, value in running.server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("quota_s3.clients._session", lambda: running.server.session)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    return running.server.create_bucket(kind)


def put(client: S3Client, bucket: str, key: str, content: bytes) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=content)


def lying(client: S3Client, bucket: str, prefix: str) -> dict[str, bytes]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [found.get("Key", "") for page in pages for found in page.get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys if "/.trash/" not in key}


class Shell:
    """Runs commands as a shell does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr("sys.argv", ["ckpt-quota", *arguments])
        try:
            main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.mark.parametrize(("retention", "at", "is_answered"), [("1h", 2, True), ("1h", 2, False), ("0", 5, True)])
def test_the_next_sweep_finishes(
    running: S3Process,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    retention: str,
    at: int,
    *,
    is_answered: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    client, shell = running.server.client, Shell(monkeypatch, capsys)
    for key in CANARIES:
        put(client, bucket, key, b"canary")
    with quota.connect("sqlite:///quota.db") as db:
        experiment = db.register_experiment(
            "x", mode="min", rung_levels=[1, 3], promotion_quantiles=[0.5, 0.5], max_resource=9
        )
        for trial_id in TRIALS:
            for name, content in FILES.items():
                put(client, bucket, f"hpo/trial-{trial_id}/{name}", content)
            place, size = f"s3://{bucket}/hpo/trial-{trial_id}/", sum(map(len, FILES.values()))
            experiment.trial_started(trial_id)
            experiment.checkpoint_saved(trial_id, location=place, size_bytes=size, resource=1)
            experiment.trial_paused(trial_id, level=1, metric=METRICS[trial_id])
    assert shell("store", "add", f"s3://{bucket}/hpo/")[0] == 0
    assert shell("limit", "set", "--checkpoints", "2")[0] == 0
    before = lying(client, bucket, "")

    killer = Killer(running, at, is_answered=is_answered)
    make_client = quota_s3.store.make_client

    def make(name: str, settings: BucketSettings) -> S3Client:
        made = make_client(name, settings)
        made.meta.events.register_first("before-send.s3", killer)
        return made

    sweep = ("sweep", "--trash-retention", retention, "--json")
    with monkeypatch.context() as patched:
        patched.setattr(quota_s3.store, "make_client", make)
        code, out, _ = shell(*sweep)
    assert killer.has_killed
    told = json.loads(out)
    assert code == 1
    assert all("Could not connect" in error for error in told["errors"])
    assert any(f"trial-{trial_id}/" in error for error in told["errors"] for trial_id in ("3", "10"))
    assert running.start()

    # What was refused is tried again after a minute.
    clock = HandClock(datetime.now(UTC) + timedelta(minutes=2))
    order = SweepOrder(PolicyParameters(policy="syne-tune"), timedelta(hours=1) if retention == "1h" else timedelta())
    with services_over("sqlite:///quota.db", clock, open_store) as services:
        report = services.sweeper.sweep(["x"], order)
    assert (report.tally.errors, report.exceeded) == ([], [])
    shown = json.loads(shell("experiment", "show", "x", "--json")[1])
    end = "purged" if retention == "0" else "trashed"
    states = {row["trial_id"]: row["state"] for row in shown["checkpoints"]}
    assert states == {"1": "stored", "2": "stored", "3": end, "10": end}
    gone = tuple(f"hpo/trial-{trial_id}/" for trial_id in ("3", "10"))
    assert lying(client, bucket, "") == {key: content for key, content in before.items() if not key.startswith(gone)}
    assert shell("rebuild", "--verify")[0] == 0

"""Processes are killed at every named point; `python -m crash.driver` does more of the same, and prints counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from crash.counts import AT_RANDOM
from crash.driver import Driver
from crash.kinds import local_maker, make_ready_for_s3, postgresql_maker, s3_maker, sqlite_maker
from crash.points import POINTS
from s3_servers import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from s3_servers import S3Server

RANDOM_KILLS = 10
IN_ANY_BUCKET = (
    "after commit of eviction_decided",
    "before trash of the store",
    "after PutObject by the store",
    "after trash of the store",
    "after commit of checkpoint_trashed",
    "after commit of purge_decided",
    "after DeleteObjects by the store",
    "after purge of the store",
    "before commit of eviction_cancelled",
    "after commit of trial_resumed",
)
IN_A_BUCKET: dict[Kind, tuple[str, ...]] = {
    "versioned": ("before ListObjectVersions by the store",),
    "unversioned": ("after CopyObject by the store", "before CompleteMultipartUpload by the store"),
}
"""Those that matter most."""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_holds_after_a_kill_at_any_point(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    new_url = sqlite_maker(tmp_path)
    if kind == "postgresql":
        new_url = postgresql_maker(request.getfixturevalue("postgresql_server"))
    driver = Driver(new_url, local_maker(), tmp_path / "deployments", seed=7)
    for point in POINTS["local"]:
        driver.at_point(point)
    for _ in range(RANDOM_KILLS):
        driver.at_random(0.5)
    driver.finish()
    assert driver.summary.violations == []
    assert driver.summary.never_reached == []
    assert driver.summary.killed[AT_RANDOM] == RANDOM_KILLS


@pytest.mark.parametrize("kind", get_args(Kind))
def test_what_holds_after_a_kill_while_checkpoints_are_in_a_bucket(
    kind: Kind, s3_server: S3Server, s3_buckets: dict[Kind, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ready_for_s3(monkeypatch, s3_server, s3_buckets[kind])
    new_medium = s3_maker(s3_server, kind, s3_buckets[kind])
    driver = Driver(sqlite_maker(tmp_path), new_medium, tmp_path / "deployments", seed=7)
    for point in (*IN_ANY_BUCKET, *IN_A_BUCKET[kind]):
        driver.at_point(point)
    driver.finish()
    assert driver.summary.violations == []
    assert driver.summary.never_reached == []

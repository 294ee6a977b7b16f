"""Bind mounts give a directory other names, and other directories above."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from quota_local import mounts

TABLE = """\
21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 21 254:16 / /data rw,relatime - ext4 /dev/vdb rw
31 21 254:16 /hpo/team /ckpt rw,relatime - ext4 /dev/vdb rw
32 21 254:16 /with\\040blank /odd\\040name rw,relatime - ext4 /dev/vdb rw
33 21 0:40 / /data/other rw - tmpfs tmpfs rw
"""


@pytest.fixture(autouse=True)
def _table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "mountinfo")


@pytest.mark.parametrize(
    ("path", "mount_id", "seen"),
    [
        ("/ckpt", 31, ["/data/hpo", "/data"]),
        ("/ckpt/a/b", 31, ["/data/hpo/team/a", "/ckpt/a", "/data/hpo/team", "/ckpt", "/data/hpo", "/data"]),
        ("/data/hpo/team/a", 30, ["/data/hpo/team", "/ckpt", "/data/hpo", "/data"]),
        ("/odd name", 32, ["/data"]),
        ("/data/other/x", 33, ["/data/other"]),
        ("/ckpt", 99, []),
        ("/ckpt", None, []),
    ],
)
def test_directories_above_by_all_their_names(path: str, mount_id: int | None, seen: list[str]) -> None:
    assert [str(one) for one in mounts.seen_above(PurePosixPath(path), mount_id)] == seen


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_MOUNTS", Path("/nowhere"))
    assert mounts.mounts() == []

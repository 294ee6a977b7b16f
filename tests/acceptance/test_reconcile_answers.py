"""What reconciling tells people: sizes and ages that mean something, and what can be done about it."""

from __future__ import annotations

import json
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.shells import in_terminal
from quota.cli.tables import age_text, sizes_text

if TYPE_CHECKING:
    from acceptance.commands import Run

RECORD = "record what differs with: ckpt-quota reconcile --record"
ADOPT = "with: ckpt-quota adopt LOCATION -e EXPERIMENT -t TRIAL --resource N"
TRASH = "ckpt-quota reconcile --trash-orphans"


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        (1_000, 1_005, ("1000 B", "1005 B")),
        (1_000, 1_000, ("1.0 kB", "1.0 kB")),
        (1_000, 2_000, ("1.0 kB", "2.0 kB")),
        (None, 2_000, (None, "2.0 kB")),
        (10**12, 10**12 + 1, ("1000000000000 B", "1000000000001 B")),
    ],
)
def test_sizes_that_differ_look_different(one: int | None, other: int | None, texts: tuple[str, str]) -> None:
    assert sizes_text(one, other) == texts


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0s"), (90, "90s"), (120, "2m"), (5_000, "83m"), (7_200, "2h"), (10**6, "11d")]
)
def test_an_age_has_one_unit(seconds: int, text: str) -> None:
    assert age_text(timedelta(seconds=seconds)) == text


def test_a_size_that_differs_by_little_is_shown_in_bytes(run: Run, paused: Path) -> None:
    (paused / "trial-1" / "weights").write_bytes(b"w" * 1_000)
    assert run("reconcile", "--record").code == 0
    (paused / "trial-1" / "weights").write_bytes(b"w" * 1_005)
    told = run("reconcile").out
    assert "  1000 B   1005 B" in told
    assert RECORD in told
    assert ADOPT not in told


def test_an_orphan_has_an_age_and_advice_and_nothing_to_record(run: Run, paused: Path) -> None:
    (paused / "lost").mkdir()
    (paused / "lost" / "weights").write_bytes(b"l" * 70)
    told = run("reconcile", "--orphans-older-than", "0").out
    assert (RECORD in told, ADOPT in told, TRASH in told) == (False, True, True)
    assert re.search(r"/lost +1   70 B    [0-9]+s\n", told)
    young = run("reconcile").out
    assert (ADOPT in young, TRASH in young) == (True, False)
    assert TRASH not in run("reconcile", "--orphans-older-than", "0", "--trash-orphans").out


def test_an_orphan_that_links_lead_to_is_not_advised_to_be_moved(run: Run, paused: Path) -> None:
    (paused / "lost").mkdir()
    (paused / "lost" / "weights").write_bytes(b"l" * 70)
    (paused / "trial-1" / "base").symlink_to(paused / "lost" / "weights")
    told = run("reconcile", "--orphans-older-than", "0").out
    assert "links in the store lead here, so it is left where it is" in told
    assert (ADOPT in told, TRASH in told) == (True, False)


def test_what_cannot_be_recorded_is_not_advised_to_be(run: Run, paused: Path) -> None:
    """A checkpoint that has turned up with another size may be another one."""
    shutil.rmtree(paused / "trial-1")
    assert run("reconcile", "--record").code == 0
    (paused / "trial-1").mkdir()
    (paused / "trial-1" / "weights").write_bytes(b"w" * 7)
    told = run("reconcile").out
    assert "it has another size than the one that was missing" in told
    assert RECORD not in told


def test_a_store_that_cannot_be_listed_is_not_said_to_be_as_the_log_says(run: Run, paused: Path) -> None:
    assert "no difference" in run("reconcile").out
    shutil.rmtree(paused)
    told = run("reconcile")
    assert told.code == 1
    assert "no difference" not in told.out
    assert "not all could be compared" in told.out
    assert "there is no such directory" in told.err


def test_differences_fit_into_a_usual_terminal(run: Run, paused: Path) -> None:
    shutil.rmtree(paused / "trial-1")
    (paused / "trial-2" / "optimizer").write_bytes(b"o" * 5)
    (paused / "lost").mkdir()
    (paused / "lost" / "weights").write_bytes(b"l" * 70)
    code, said = in_terminal(Path.cwd(), 80, "reconcile")
    assert code == 0
    lines = said.replace("\r", "").splitlines()
    assert f"uri: below {paused.as_uri()}/" in said.replace("\r", "")
    assert any(line.split()[:4] == ["trial-2", "asha", "2", "100"] for line in lines)
    assert [json.loads(line)["kind"] for line in run("reconcile", "--json").out.splitlines()][-1] == "summary"


def test_its_exit_codes_are_documented(run: Run) -> None:
    assert "Ends with 0 whatever differs" in " ".join(run("reconcile", "--help").out.split())

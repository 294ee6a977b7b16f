"""The command line where something is odd: its streams, its locale, its arguments. It never shows a traceback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import quota
from acceptance.shells import in_shell, in_terminal

if TYPE_CHECKING:
    from pathlib import Path

SMILE = "\U0001f600"
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a database in which an experiment has an unusual name."""
    with quota.connect(f"sqlite:///{tmp_path}/quota.db") as opened:
        opened.register_experiment(SMILE, mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=3)
    return tmp_path


@pytest.mark.parametrize(
    "command", [["experiment", "list"], ["plan"], ["audit", "export", SMILE], ["doctor", "--json"]]
)
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "| true"])
def test_streams_that_are_closed_or_full(folder: Path, command: list[str], redirection: str) -> None:
    code, _ = in_shell(folder, redirection, *command)
    assert code in {0, 1}


def test_an_answer_that_cannot_be_written_is_a_failure(folder: Path) -> None:
    assert in_shell(folder, ">/dev/full", "experiment", "list") == (
        1,
        "ckpt-quota: cannot go on: No space left on device\n",
    )


def test_closed_input(folder: Path) -> None:
    assert in_shell(folder, "<&-", "ingest", "-") == (0, "0 events stored\n")


def test_a_locale_that_cannot_spell_every_name(folder: Path) -> None:
    code, said = in_shell(folder, "", "experiment", "list", **NO_UTF8)
    assert (code, "\\U0001f600" in said) == (0, True)
    code, said = in_shell(folder, "", "experiment", "list", "--json", **NO_UTF8)
    assert (code, "\\ud83d\\ude00" in said) == (0, True)
    code, said = in_shell(folder, "", "audit", "export", SMILE, PYTHONIOENCODING="ascii")
    assert (code, json.loads(said.splitlines()[0])["experiment_id"]) == (0, SMILE)


def test_a_table_that_a_terminal_is_too_narrow_for_is_shown_line_by_line(folder: Path) -> None:
    assert in_shell(folder, "", "store", "add", str(folder / ".."))[0] == 1
    (folder / "checkpoints").mkdir()
    assert in_shell(folder, "", "store", "add", "checkpoints")[0] == 0
    code, said = in_terminal(folder, 40, "store", "list")
    assert (code, f"root   {(folder / 'checkpoints').as_uri()}" in said) == (0, True), said
    code, said = in_terminal(folder, 400, "store", "list")
    assert (code, f"root   {(folder / 'checkpoints').as_uri()}" in said) == (0, False), said


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["restore", b"\xff"], "this is no decision's id"),
        (["pin", SMILE, b"\xff"], "it has no checkpoint"),
        (["experiment", "show", b"\xff"], "there is none"),
        (["plan", "-d", b"sqlite:////tmp/\xff.db"], "this is no database URL"),
        (["plan", "-d", "postgresql://localhost:abc/x"], "this is no database URL"),
        (["plan", "-d", "postgresql:///x?host=/nowhere&foo=bar"], "invalid connection option"),
        (["sweep", "--trash-retention", "99999999999999999999d"], "at most 36500 days"),
        (["evictions", "-n", "9223372036854775808"], "-n"),
        (["audit", "verify", "--heads", "/dev/null"], "it is empty, so it would prove nothing"),
    ],
)
def test_odd_arguments(folder: Path, arguments: list[str | bytes], named: str) -> None:
    code, said = in_shell(folder, "", *arguments)
    assert code in {1, 2}
    assert named in said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("QUOTA_LEASE_TERM", "999999999d", "at most 36500 days"),
        ("QUOTA_LEASE_TERM", "0", "at least 1s"),
        ("QUOTA_ACTOR", "\u202e", "invisible or bidirectional"),
    ],
)
def test_odd_variables(folder: Path, name: str, value: str, said: str) -> None:
    code, told = in_shell(folder, "", "sweep", **{name: value})
    assert (code, said in told) == (2, True), told

"""What the doctor looks at, what it says, and with which code it ends."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quota
from acceptance.shells import in_terminal
from quota.bootstrap import services
from quota.daemon import BEAT_EVERY
from quota.errors import DatabaseUnavailable
from quota.eventlog.heartbeats import Heartbeats
from quota.services.ids import new_id

if TYPE_CHECKING:
    from acceptance.commands import Run


def checks(run: Run, code: int, *options: str) -> dict[str, list[tuple[bool, str]]]:
    """Return what was looked at: by name, whether it is well, and the detail."""
    told = run("doctor", "--json", *options)
    assert (told.code, told.err) == (code, "")
    found: dict[str, list[tuple[bool, str]]] = {}
    for one in told.data:
        found.setdefault(one["check"], []).append((one["ok"], one["detail"]))
    return found


def test_all_is_well(run: Run, paused: Path) -> None:
    assert run("sweep").code == 0
    found = checks(run, 0)
    assert list(found) == [
        "software",
        "settings",
        "database",
        "schema",
        "experiments",
        "sweeps",
        "limits",
        "store",
        "checkpoints",
    ]
    assert found["limits"] == [(True, "1 limit, and none is exceeded")]
    assert found["store"] == [(True, f"{paused.as_uri()} is there, and this user may move what lies in it")]
    assert found["experiments"] == [(True, "1 experiment, and the views show all that was recorded")]


def test_an_experiment_above_its_limit_is_no_fault(run: Run, paused: Path) -> None:
    assert paused.is_dir()
    assert checks(run, 0)["limits"] == [(True, "exceeded: experiments; see: ckpt-quota limit list, ckpt-quota plan")]
    shown = run("doctor").out
    assert "above their limit " not in shown
    assert " yes " not in shown


def change(statement: str, *values: object) -> None:
    with closing(sqlite3.connect("quota.db")) as database, database:
        database.execute(statement, values)


def text_of(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_that_nobody_sweeps_any_more_is_a_fault_once_a_limit_is_exceeded(run: Run, paused: Path) -> None:
    assert paused.is_dir()
    assert checks(run, 0)["limits"][0][0]
    change("UPDATE limits SET set_at = ?", text_of(datetime.now(UTC) - timedelta(days=1, minutes=1)))
    ((is_well, detail),) = checks(run, 1)["limits"]
    assert not is_well
    assert "no daemon runs, and no sweep has evicted anything ever; does cron run ckpt-quota sweep?" in detail
    with services("sqlite:///quota.db", "me@here") as opened:
        opened.heartbeats.begin(new_id(), "1.0", BEAT_EVERY)
        assert checks(run, 0)["limits"][0][0]


def test_what_a_store_refuses_is_a_fault_for_as_long_as_it_is_tried_again(run: Run, paused: Path) -> None:
    assert run("plan").code == 0
    assert "refusals" not in checks(run, 0)
    refused = "UPDATE checkpoints SET failures = 1, failed_at = ? WHERE trial_id = '2'"
    change(refused, text_of(datetime.now(UTC)))
    ((is_well, detail),) = checks(run, 1)["refusals"]
    assert not is_well
    assert detail.startswith("stores refuse to move or to delete 1 checkpoint; see: ckpt-quota evictions")
    change(refused, text_of(datetime.now(UTC) - timedelta(days=3)))
    assert "refusals" not in checks(run, 0)
    assert paused.is_dir()


def test_schedules_are_looked_at(run: Run, paused: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paused.is_dir()
    monkeypatch.setenv("QUOTA_SWEEP_SCHEDULE", "99 * * * *")
    found = checks(run, 2)
    assert list(found) == ["software", "settings"]
    assert found["settings"][0][0] is False
    assert "field `sweep_schedule` is '99 * * * *': minute '99': it is one of 0-59" in found["settings"][0][1]


@pytest.mark.parametrize(
    ("options", "said"), [(["-d", "mysql://x/y"], "mysql is not supported"), ([], "field `policy` is 'best'")]
)
def test_settings_that_are_none_are_called_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    if not options:
        monkeypatch.setenv("QUOTA_POLICY", "best")
    ((is_well, detail),) = checks(run, 2, *options)["settings"]
    assert (is_well, said in detail) == (False, True)


def test_what_is_wrong_with_the_database_is_told_once(run: Run) -> None:
    found = checks(run, 1)
    assert list(found) == ["software", "settings", "schema"]
    assert found["schema"][0][1].endswith("ckpt-quota db upgrade --database sqlite:///quota.db")
    Path("quota.db").write_text("no database at all, but long enough to be looked at " * 100)
    assert list(checks(run, 1)) == ["software", "settings", "database"]


def test_what_fails_later_has_a_name_of_its_own(run: Run, paused: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paused.is_dir()

    def gone(_: object) -> None:
        message = "database x: it went away"
        raise DatabaseUnavailable(message)

    monkeypatch.setattr(Heartbeats, "look", gone)
    found = checks(run, 1)
    assert [is_well for is_well, _ in found["database"]] == [True]
    assert found["daemon"] == [(False, "database x: it went away")]
    assert "store" in found


def test_checkpoints_in_no_store_are_named_with_what_to_do(run: Run, paused: Path) -> None:
    with quota.connect("sqlite:///quota.db") as db:
        experiment = db.experiment("asha")
        for number in range(3, 7):
            experiment.trial_started(str(number))
            experiment.checkpoint_saved(str(number), location=f"/elsewhere/{number}", size_bytes=1, resource=1)
        experiment.trial_stopped("6")
    assert paused.is_dir()
    ((is_well, detail),) = checks(run, 1)["checkpoints"]
    assert not is_well
    assert detail.startswith("3 in no store, so never evicted: file:///elsewhere/3, file:///elsewhere/4, ")
    for advice in ("ckpt-quota store add ROOT", "checkpoint_missing", "ckpt-quota experiment finish EXPERIMENT"):
        assert advice in detail
    assert run("experiment", "finish", "asha").code == 0
    assert checks(run, 0)["checkpoints"] == [(True, "all that count lie in a store")]


def test_daemons_are_told_apart(run: Run, paused: Path) -> None:
    assert paused.is_dir()
    with services("sqlite:///quota.db", "me@here") as opened:
        for _ in range(2):
            opened.heartbeats.begin(new_id(), "1.0", BEAT_EVERY)
        found = checks(run, 0)["daemon"]
    assert len(found) == 2
    for is_well, detail in found:
        assert is_well
        assert detail.startswith(f"pid {os.getpid()} of me@here, version 1.0, last heard of at ")


def test_a_store_that_this_user_may_not_use_is_a_fault(run: Run, paused: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda name, *_, **__: name != b".trash")
        ((is_well, detail),) = checks(run, 1)["store"]
    assert (is_well, f"Permission denied (EACCES) at '{paused / '.trash'}'" in detail) == (False, True)
    shutil.rmtree(paused)
    ((is_well, detail),) = checks(run, 1)["store"]
    assert (is_well, "there is no such directory" in detail) == (False, True)


def test_it_fits_into_a_usual_terminal(run: Run, paused: Path) -> None:
    assert paused.is_dir()
    assert run("store", "list").code == 0
    code, said = in_terminal(Path.cwd(), 80, "doctor")
    assert code == 0
    lines = said.replace("\r", "").splitlines()
    assert sum("ok" in line for line in lines) >= 9
    assert len(lines) < 30

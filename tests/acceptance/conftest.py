"""What the tests of the command line and of daemons work on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import quota
from acceptance.commands import Answer, Run
from acceptance.daemons import Hold, House
from quota.bootstrap import services
from quota.cli import main
from quota.domain.events import LimitSet
from quota.eventlog.database import Database
from quota.services.migrating import upgrade


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Keep a command that says what it has to say as log lines from deciding how others of this process say it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in an empty directory, as a shell does."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Answer:
        monkeypatch.setattr("sys.argv", ["ckpt-quota", *arguments])
        try:
            main()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return command


@pytest.fixture
def paused(run: Run, tmp_path: Path) -> Path:
    """Two paused trials whose checkpoints lie in a store, and a limit of one; returns the store's root."""
    root = tmp_path / "scratch"
    with quota.connect("sqlite:///quota.db") as db:
        experiment = db.register_experiment(
            "asha", mode="min", rung_levels=[1, 3], promotion_quantiles=[0.5, 0.5], max_resource=9
        )
        for trial_id, metric in (("1", 0.1), ("2", 0.2)):
            place = root / f"trial-{trial_id}"
            place.mkdir(parents=True)
            (place / "weights").write_bytes(b"w" * 100)
            experiment.trial_started(trial_id)
            experiment.trial_reported(trial_id, resource=1, metric=metric)
            experiment.checkpoint_saved(trial_id, location=place, size_bytes=100, resource=1)
            experiment.trial_paused(trial_id, level=1, metric=metric)
    assert run("store", "add", str(root)).code == 0
    assert run("limit", "set", "--checkpoints", "1").code == 0
    return root


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    root = tmp_path / "store"
    root.mkdir()
    database = Database(database_url)
    upgrade(database)
    database.close()
    with services(database_url, "operator") as opened:
        opened.administration.add_store(f"file://{root}")
        opened.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=2, low=2))
        yield House(database_url, root, opened)


@pytest.fixture
def hold(tmp_path: Path) -> Hold:
    folder = tmp_path / "hold"
    folder.mkdir()
    return Hold(folder)

"""The demo, as a newcomer runs it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acceptance.readme import block
from cookbook import Question, answer, copy_rows, questions
from quota.bootstrap import services
from quota.demo.replay import EXPERIMENT
from quota.demo.report import QUERIES
from quota.demo.trace import recorded_calls
from quota.eventlog.database import Database
from recomputing import not_recomputed, whole_stream
from support import create_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import PostgresqlServer


@dataclass(frozen=True)
class DemoRun:
    directory: Path
    text: str


def run_command(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "quota.cli", *arguments],
        cwd=directory,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    place = tmp_path_factory.mktemp("demo")
    done = run_command("demo", directory=place)
    assert done.returncode == 0, done.stderr
    return DemoRun(place / "ckpt-quota-demo", done.stdout)


def rows_of(run: DemoRun, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(run.directory / "quota.db")) as connection:
        return connection.execute(query).fetchall()


def as_sqlite3_prints(rows: list[tuple[object, ...]]) -> str:
    return "".join("|".join("" if value is None else str(value) for value in row) + "\n" for row in rows)


def unpadded(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_output_is_what_the_readme_shows(demo_run: DemoRun) -> None:
    shown = unpadded(block("demo-output"))
    assert unpadded(demo_run.text)[: len(shown)] == shown


def test_queries_are_those_of_the_readme(demo_run: DemoRun) -> None:
    assert block("demo-queries").strip() == "\n\n".join(f"-- {question}\n{query}" for question, query in QUERIES)
    assert all(query in demo_run.text for _, query in QUERIES)


def test_answers_are_those_of_the_readme(demo_run: DemoRun) -> None:
    answers = "\n".join(as_sqlite3_prints(rows_of(demo_run, query)) for _, query in QUERIES)
    assert answers == block("demo-answers")


def test_what_went_is_what_syne_tune_removed(demo_run: DemoRun) -> None:
    _, calls = recorded_calls()
    final = calls[-1]["extra_results"]
    query = "SELECT checkpoints_evicted, trials_resumed, lost_resource FROM experiments"
    assert rows_of(demo_run, query) == [
        (final["num_checkpoints_removed"], final["num_trials_resumed"], final["cost_resources"])
    ]


def test_estimators_are_those_of_syne_tune(demo_run: DemoRun) -> None:
    _, calls = recorded_calls()
    last = [call["estimators"] for call in calls if call["call"] == "loop_end"][-1]
    rows = rows_of(demo_run, "SELECT level, ones, total FROM estimators WHERE level > 0")
    assert {str(level): [ones, total] for level, ones, total in rows} == last


def test_disk_holds_what_the_database_says(demo_run: DemoRun) -> None:
    stored = rows_of(demo_run, "SELECT uri, size_bytes FROM checkpoint_inventory WHERE state = 'stored'")
    root = demo_run.directory / "checkpoints"
    found = {
        (path.as_uri(), sum(file.stat().st_size for file in path.iterdir()))
        for path in root.iterdir()
        if path.name != ".trash"
    }
    assert found == set(stored)
    trashed = rows_of(demo_run, "SELECT decision_id FROM eviction_history WHERE outcome = 'trashed'")
    assert {path.name for path in (root / ".trash").iterdir()} == {".store", *(decision for (decision,) in trashed)}


def test_log_and_projections_agree(demo_run: DemoRun) -> None:
    for arguments in (["rebuild", "--verify"], ["audit", "verify"]):
        done = run_command(*arguments, "--database", "sqlite:///quota.db", directory=demo_run.directory)
        assert done.returncode == 0, done.stderr


def test_an_audit_says_the_same_in_one_process_and_in_two(demo_run: DemoRun) -> None:
    found = []
    for jobs in ("1", "2"):
        arguments = ["audit", "verify", "--jobs", jobs, "--json", "--database", "sqlite:///quota.db"]
        done = run_command(*arguments, directory=demo_run.directory)
        assert (done.returncode, done.stderr) == (0, "")
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    ((decided,),) = rows_of(demo_run, "SELECT count(*) FROM eviction_history")
    assert (found[0]["decisions"], found[0]["mismatches"], found[0]["faults"]) == (decided, [], [])


def test_a_decision_is_explained(demo_run: DemoRun) -> None:
    (decided, *_) = rows_of(
        demo_run,
        "SELECT decision_id, trial_id, rank, runner_up_uri FROM eviction_history WHERE reason = 'paused'",
    )
    decision_id, trial_id, rank, runner_up = map(str, decided)
    database = ["--database", "sqlite:///quota.db"]
    told = run_command("explain", decision_id, *database, directory=demo_run.directory)
    assert (told.returncode, told.stderr) == (0, "")
    assert "it was among those to be missed least" in told.stdout
    assert "all inputs are equal, to the last bit" in told.stdout
    found = json.loads(run_command("explain", decision_id, "--json", *database, directory=demo_run.directory).stdout)
    assert (found["recomputed"], found["inputs"]["rank"]) == (True, int(rank))
    assert [one["rank"] for one in found["rung"] if one["trial_id"] == trial_id] == [int(rank)]
    assert found["kept"][0]["uri"] == runner_up
    assert found["later"][0]["type"] == "checkpoint_trashed"


def test_each_decision_recomputes_from_the_log(demo_run: DemoRun) -> None:
    with services(f"sqlite:///{demo_run.directory / 'quota.db'}", "auditor") as opened:
        stream = whole_stream(opened, EXPERIMENT)
    assert list(not_recomputed(stream, with_places=True)) == []
    decided = sum(event.payload.TYPE == "eviction_decided" for event in stream)
    assert rows_of(demo_run, "SELECT count(*) FROM eviction_history") == [(decided,)]
    assert decided > 0


def test_directory_that_exists_is_left_alone(demo_run: DemoRun) -> None:
    done = run_command("demo", "--json", directory=demo_run.directory.parent)
    assert done.returncode == 2
    error = json.loads(done.stderr)
    assert error["error"] == "SettingsRefused"
    assert "ckpt-quota-demo" in error["message"]
    assert "choose another with --directory" in error["message"]


@pytest.fixture(scope="module")
def databases(demo_run: DemoRun, postgresql_server: PostgresqlServer) -> Iterator[dict[str, Database]]:
    """Give the demo's database, and the same rows on PostgreSQL."""
    on_sqlite = Database(f"sqlite:///{demo_run.directory / 'quota.db'}")
    with postgresql_server.database() as url:
        create_schema(url)
        on_postgresql = Database(url)
        with on_sqlite.read() as source, on_postgresql.write() as target:
            copy_rows(source, target)
        yield {"sqlite": on_sqlite, "postgresql": on_postgresql}
        on_postgresql.close()
    on_sqlite.close()


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
@pytest.mark.parametrize("question", questions(), ids=lambda one: one.title)
def test_answers_are_those_of_the_auditing_page(
    databases: dict[str, Database], question: Question, dialect: str
) -> None:
    with databases[dialect].read() as connection:
        assert answer(connection, question.sql) == question.answer


def test_the_auditing_page_has_twenty_questions() -> None:
    assert [one.title.partition(".")[0] for one in questions()] == [str(number) for number in range(1, 21)]

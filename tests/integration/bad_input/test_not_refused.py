"""What looks like bad input and is none: it is stored, and has just the effect that it should have."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bad_input import EXPERIMENT, REGISTERED, Trial7, event, line, running_trial
from quota.domain.events import NewEvent, TrialPaused, TrialReported, TrialStarted
from quota.services.ids import new_id
from quota.services.ingesting import parse_line
from support import START

if TYPE_CHECKING:
    from pathlib import Path

BEST_FIRST = {
    "min": ["-1e300", "0.5", "1e300", '"Infinity"', '"NaN"', '"-Infinity"'],
    "max": ["1e300", "0.5", "-1e300", '"-Infinity"', '"NaN"', '"Infinity"'],
}
FLAGS = "SELECT position, reason FROM flags WHERE experiment_id = 'one' ORDER BY position"
STATE = [
    "SELECT trial_id, status, resource, metric, level FROM trials ORDER BY trial_id",
    "SELECT level, trial_id, placed_position, promoted FROM rung_entries ORDER BY level, trial_id",
    "SELECT level, ones, total FROM estimators ORDER BY level",
    "SELECT held_checkpoints, running_trials, stored_checkpoints FROM usage",
]


def state(trial: Trial7) -> list[list[tuple[object, ...]]]:
    """What the projections say of trials, rungs, estimators and usage."""
    return [trial.rows(query) for query in STATE]


def ranked(mode: str) -> list[bytes]:
    """Make a line for each metric, worst first, in an experiment of its own."""
    lines = [line(event("experiment_registered", REGISTERED | {"mode": mode}, experiment_id=mode))]
    for number, metric in reversed(list(enumerate(BEST_FIRST[mode], start=1))):
        trial = {"trial_id": str(number)}
        lines.append(line(event("trial_started", trial, experiment_id=mode)))
        reported = line(event("trial_reported", trial | {"resource": 1, "metric": "M"}, experiment_id=mode))
        paused = line(event("trial_paused", trial | {"level": 1, "metric": "M"}, experiment_id=mode))
        lines += [text.replace(b'"M"', metric.encode()) for text in (reported, paused)]
    return lines


@pytest.mark.parametrize("mode", ["min", "max"])
def test_metrics_that_are_no_numbers_rank_last_and_travel(database_url: str, tmp_path: Path, mode: str) -> None:
    standings = f"SELECT trial_id FROM rung_standings WHERE experiment_id = '{mode}' ORDER BY rank"
    with running_trial(database_url) as trial:
        assert trial.ingest(*ranked(mode)).stored == 19
        by_rank = [row[0] for row in trial.rows(standings)]
        assert by_rank[:3] == ["1", "2", "3"]
        assert set(by_rank[3:]) == {"4", "5", "6"}
        exported = list(trial.services.auditor.export(mode))
        told = [json.loads(text, parse_constant=pytest.fail)["data"].get("metric") for text in exported]
        assert {"NaN", "Infinity", "-Infinity"} <= set(told)
        assert list(trial.services.rebuilder.verify(mode, lambda *_: None)) == []
        assert [row[0] for row in trial.rows(standings)] == by_rank
    with running_trial(f"sqlite:///{tmp_path}/elsewhere.db") as elsewhere:
        assert elsewhere.ingest(*(text.encode() for text in exported)).stored == 19
        assert list(elsewhere.services.auditor.export(mode)) == exported
        assert [row[0] for row in elsewhere.rows(standings)] == by_rank
        assert elsewhere.ingest(*(text.encode() for text in exported)).stored_before == 19


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf])
def test_metrics_that_are_no_numbers_through_python(database_url: str, metric: float) -> None:
    with running_trial(database_url) as trial:
        new = trial.handle.event(TrialReported(trial_id="7", resource=1, metric=metric), START)
        assert [trial.services.recorder.append([new])[0].stored_before for _ in range(2)] == [False, True]
        shown = trial.rows("SELECT metric FROM trials")[0][0]
        assert shown is None if math.isnan(metric) else shown == metric
        assert trial.rows("SELECT metric FROM trial_history WHERE type = 'trial_reported'") == [(shown,)]


def test_bare_words_that_python_writes_for_them() -> None:
    for word in ("NaN", "Infinity", "-Infinity"):
        sent = line(event("trial_paused", {"trial_id": "7", "level": 1, "metric": "M"})).replace(b'"M"', word.encode())
        new = parse_line(sent, 1, "tester")
        assert new is not None
        assert isinstance(new.payload, TrialPaused)
        assert str(new.payload.metric) == str(float(word))


def test_numbers_and_texts_of_other_libraries_are_kept_as_plain_ones(database_url: str) -> None:
    with running_trial(database_url) as trial:
        config: dict[str, Any] = {"lr": np.float64(0.5), "layers": (np.int64(3), {"wide": np.bool_(True)})}  # noqa: FBT003
        payloads = [
            TrialStarted(trial_id=np.str_("8"), config=config),
            TrialReported(trial_id="8", resource=np.int64(1), metric=np.float32(0.25)),  # type: ignore[arg-type]
            TrialReported(trial_id="8", resource=2, metric=np.float64("nan")),
            TrialReported(trial_id="8", resource=3, metric=1),
        ]
        batch = [trial.handle.event(payload, START) for payload in payloads]
        assert [receipt.stored_before for receipt in trial.services.recorder.append(batch)] == [False] * 4
        # Sent again, after an answer that was lost, they must be the same events.
        assert [receipt.stored_before for receipt in trial.services.recorder.append(batch)] == [True] * 4
        data = [json.loads(text)["data"] for text in trial.services.auditor.export(EXPERIMENT)][2:]
        assert data == [
            {"trial_id": "8", "bracket": 0, "config": {"lr": 0.5, "layers": [3, {"wide": True}]}},
            {"trial_id": "8", "resource": 1, "metric": 0.25},
            {"trial_id": "8", "resource": 2, "metric": "NaN"},
            {"trial_id": "8", "resource": 3, "metric": 1.0},
        ]


def test_registering_again_with_numbers_written_otherwise(database_url: str) -> None:
    with running_trial(database_url) as trial:
        first = line(event("experiment_registered", REGISTERED | {"max_wallclock_seconds": 60}, experiment_id="two"))
        again = first.replace(b": 60}", b": 60.0}")
        assert first != again
        assert trial.ingest(first).stored == 1
        assert trial.ingest(again).stored_before == 1


def test_late_reports_are_flagged_and_change_nothing(database_url: str) -> None:
    with running_trial(database_url) as trial:
        handle = trial.handle
        handle.trial_reported("7", resource=1, metric=0.5, occurred_at=START)
        handle.trial_paused("7", level=1, metric=0.5, occurred_at=START)
        before = state(trial)
        late = handle.trial_reported("7", resource=3, metric=0.1, occurred_at=START)
        assert state(trial) == before
        handle.trial_stopped("7", occurred_at=START)
        before = state(trial)
        later = handle.trial_reported("7", resource=3, metric=0.1, occurred_at=START)
        assert state(trial) == before
        assert trial.rows(FLAGS) == [(late.position, "late_report"), (later.position, "late_report")]


@pytest.mark.parametrize("first", ["trial_stopped", "trial_completed", "trial_failed"])
def test_end_that_is_told_twice(database_url: str, first: str) -> None:
    with running_trial(database_url) as trial:
        assert trial.ingest(line(event(first, {"trial_id": "7"}))).stored == 1
        before = state(trial)
        assert trial.ingest(line(event("trial_completed", {"trial_id": "7"}))).stored == 1
        assert state(trial) == before
        assert before[0] == [("7", first.removeprefix("trial_"), None, None, None)]
        assert trial.rows(FLAGS) == [(4, "ended_before")]


def report_at(occurred_at: str) -> bytes:
    return line(event("trial_reported", {"trial_id": "7", "resource": 1, "metric": 0.5}, occurred_at=occurred_at))


def test_times_that_cannot_be_right_are_flagged_and_count(database_url: str) -> None:
    with running_trial(database_url) as trial:
        started = line(event("trial_started", {"trial_id": "8"}, occurred_at="2026-01-02T00:00:00Z"))
        report = line(event("trial_reported", {"trial_id": "8", "resource": 1, "metric": 0.5}))
        sent = [started, report, report_at("2025-12-31T23:59:59Z"), report_at("2999-01-01T00:00:00+01:00")]
        assert trial.ingest(*sent, report_at("2026-01-01T00:00:00Z")).stored == 5
        assert trial.rows(FLAGS) == [
            (4, "time_before_start"),
            (5, "time_before_registration"),
            (6, "time_in_future"),
        ]
        assert trial.rows("SELECT resource FROM trials ORDER BY trial_id") == [(1,), (1,)]


def test_empty_batch(database_url: str) -> None:
    with running_trial(database_url) as trial:
        assert trial.services.recorder.append([]) == []
        report = trial.ingest()
        assert (report.stored, report.stored_before) == (0, 0)
        report = trial.ingest(b"\n", b"  \r\n")
        assert (report.stored, report.stored_before) == (0, 0)
        assert trial.stored() == 2


def batch_of(trial: Trial7) -> list[NewEvent]:
    return [
        trial.handle.event(TrialStarted(trial_id="8"), START),
        trial.handle.event(TrialReported(trial_id="8", resource=1, metric=0.5), START),
        trial.handle.event(TrialPaused(trial_id="8", level=1, metric=0.5), START),
    ]


def test_batch_of_which_a_part_was_stored_before(database_url: str) -> None:
    with running_trial(database_url) as trial:
        append = trial.services.recorder.append
        batch = batch_of(trial)
        append(batch[:2])
        receipts = append(batch)
        assert [(one.event_id, one.position, one.stored_before) for one in receipts] == [
            (batch[0].event_id, 3, True),
            (batch[1].event_id, 4, True),
            (batch[2].event_id, 5, False),
        ]


def test_whole_batch_twice(database_url: str) -> None:
    with running_trial(database_url) as trial:
        append = trial.services.recorder.append
        batch = batch_of(trial)
        first = append(batch)
        before = state(trial)
        again = append(batch)
        assert [one.position for one in again] == [one.position for one in first] == [3, 4, 5]
        assert all(one.stored_before for one in again)
        assert (trial.stored(), state(trial)) == (5, before)


def test_batch_that_names_an_event_twice(database_url: str) -> None:
    with running_trial(database_url) as trial:
        new = trial.handle.event(TrialStarted(trial_id="8"), START)
        receipts = trial.services.recorder.append([new, new])
        assert [(one.position, one.stored_before) for one in receipts] == [(3, False), (3, True)]


def test_same_event_from_another_host(database_url: str) -> None:
    with running_trial(database_url) as trial:
        new = NewEvent(
            event_id=new_id(),
            experiment_id=EXPERIMENT,
            occurred_at=START,
            actor="somebody@else",
            payload=TrialStarted(trial_id="8"),
        )
        sent = line(event("trial_started", {"trial_id": "8"}, event_id=new.event_id))
        assert trial.ingest(sent).stored == 1
        assert trial.services.recorder.append([new])[0].stored_before is True

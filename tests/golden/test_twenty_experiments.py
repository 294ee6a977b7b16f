"""Twenty recorded runs share one database and one disk, and limits on all, on two teams and on one experiment."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

from golden.replay import read_trace
from quota.bootstrap import open_store
from quota.client import as_uri
from quota.demo.trace import recorded_calls
from quota.domain.events import (
    CheckpointSaved,
    Event,
    ExperimentRegistered,
    LimitSet,
    NewEvent,
    PolicyParameters,
    TrialCompleted,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)
from quota.domain.identifiers import TRASH_NAME
from quota.services.ids import new_id
from quota.services.sweep_order import SweepOrder, SweepReport
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quota.bootstrap import Services

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CALLS_EACH = 80
CALLS_A_SWEEP = 80
LIMITS = (
    LimitSet(scope="experiment:x00", measure="checkpoints", high=6, low=5),
    LimitSet(scope="label:team=vision", measure="bytes", high=160_000, low=140_000),
    LimitSet(scope="label:team=nlp", measure="checkpoints", high=35, low=30),
    LimitSet(scope="deployment", measure="bytes", high=400_000, low=360_000),
)
ORDER = SweepOrder(PolicyParameters(), timedelta(days=1), clock_tolerance=timedelta(days=36_500))
"""What is written here is written now, and the clock shows when the runs were recorded."""


@dataclass
class Run:
    """One recorded run, in an experiment of its own."""

    services: Services
    clock: HandClock
    root: Path
    experiment_id: str
    header: dict[str, Any]
    pending: list[NewEvent] = field(default_factory=list)

    def register(self, team: str) -> None:
        self.add(
            ExperimentRegistered(
                mode=self.header["mode"],
                rung_levels=tuple(self.header["rung_levels"]),
                promotion_quantiles=tuple(self.header["promotion_quantiles"]),
                max_resource=self.header["max_resource"],
                max_wallclock_seconds=None,
                labels={"team": team},
            )
        )
        self.flush()

    def add(self, payload: Event) -> None:
        event = {"event_id": new_id(), "experiment_id": self.experiment_id, "occurred_at": self.clock.moment}
        self.pending.append(NewEvent(**event, actor="syne-tune", payload=payload))

    def flush(self) -> None:
        self.services.recorder.append(self.pending)
        self.pending.clear()

    def replay(self, call: dict[str, Any]) -> None:
        trial_id = str(call.get("trial_id"))
        match call["call"]:
            case "start_trial":
                self.add(TrialStarted(trial_id=trial_id))
            case "trial_result":
                self._report(trial_id, call)
            case "trial_complete":
                self.add(TrialCompleted(trial_id=trial_id))
            case "resume_trial":
                self.flush()
                self.add(TrialResumed(trial_id=trial_id, level=self._level(trial_id)))
                self.services.recorder.resume_trial(self.pending.pop())
            case _:
                self.flush()

    def _report(self, trial_id: str, call: dict[str, Any]) -> None:
        resource, metric, decision = call["resource"], call["metric"], call["decision"]
        self.add(TrialReported(trial_id=trial_id, resource=resource, metric=metric))
        if decision != "CONTINUE":
            self._save(trial_id, resource)
            paused = TrialPaused(trial_id=trial_id, level=resource, metric=metric)
            self.add(paused if decision == "PAUSE" else TrialStopped(trial_id=trial_id))
            # What is written is recorded before the next sweep compares the two.
            self.flush()

    def _save(self, trial_id: str, resource: int) -> None:
        place = self.root / self.experiment_id / f"trial-{trial_id}"
        place.mkdir(parents=True, exist_ok=True)
        size = 1_000 + crc32(f"{self.experiment_id}/{trial_id}".encode()) % 5_000
        (place / "weights").write_bytes(bytes(size))
        self.add(CheckpointSaved(trial_id=trial_id, uri=as_uri(place), size_bytes=size, resource=resource))

    def _level(self, trial_id: str) -> int:
        with self.services.database.read() as connection:
            level = self.services.projector.look(connection, self.experiment_id).trials[trial_id].level
        assert level is not None
        return level


def traces() -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield twenty recorded runs: some of them twice, under other names and at other times."""
    names = sorted(path for path in GOLDEN.glob("*.jsonl.gz") if path.name != "large_rung.jsonl.gz")
    recorded = [recorded_calls(), *((calls[0], calls[1:]) for calls in map(read_trace, names))]
    for number in range(20):
        header, calls = recorded[number % len(recorded)]
        yield header, [call for call in calls if call["call"] != "final"][:CALLS_EACH]


def interleaved(services: Services, clock: HandClock, root: Path) -> Iterator[None]:
    """Replay all runs at once, call by call in the order of their times."""
    runs: list[Run] = []
    queues: list[list[tuple[float, int, int, dict[str, Any]]]] = []
    for number, (header, calls) in enumerate(traces()):
        run = Run(services, clock, root, f"x{number:02}", header)
        run.register(("vision", "nlp", "speech")[number % 3])
        runs.append(run)
        start = 20.0 * number
        queues.append([(start + call["t"], number, place, call) for place, call in enumerate(calls)])
    for seconds, number, _, call in heapq.merge(*queues, key=lambda one: one[:3]):
        clock.set_seconds(seconds)
        runs[number].replay(call)
        yield
    for run in runs:
        run.flush()


def size_of(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


def used(services: Services) -> dict[tuple[str, str], int]:
    rows = services.queries.ask("SELECT scope, measure, used FROM limit_usage")
    return {(row["scope"], row["measure"]): row["used"] for row in rows}


def check(services: Services, report: SweepReport, root: Path) -> None:
    """See that every limit holds or that the sweep says why not, and that the log's sums are those of the disk."""
    assert (report.tally.failed, report.tally.missing, report.tally.errors, report.untrusted) == (0, [], [], {})
    services.queries.catch_up(services.queries.experiment_ids())
    now = used(services)
    for limit in LIMITS:
        name = limit.scope.removeprefix("experiment:")
        if now[limit.scope, limit.measure] > limit.high:
            assert name in (*report.exceeded, *report.exceeded_scopes)
            assert set(report.held_back[name]) <= {"running", "best", "reserved"}
            assert report.held_back[name]
        else:
            assert name not in report.held_back
    rows = services.queries.ask("SELECT experiment_id, stored_bytes, trashed_bytes FROM quota_usage")
    for row in rows:
        assert row["stored_bytes"] == size_of(root / row["experiment_id"])
    assert sum(row["trashed_bytes"] for row in rows) == sum(
        size_of(one) for one in (root / TRASH_NAME).glob("*") if one.is_dir()
    )


def test_all_limits_hold_after_every_sweep_or_the_report_says_why_not(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only what is decided matters here, not that it survives a power cut.
    monkeypatch.setattr("os.fsync", lambda _: None)
    create_schema(sqlite_url)
    clock, root = HandClock(), tmp_path / "disk"
    root.mkdir()
    purged, scopes = 0, set[str]()
    with services_over(sqlite_url, clock, open_store) as services:
        services.administration.add_store(as_uri(root))
        for limit in LIMITS:
            services.administration.set_limit(limit)
        for number, _ in enumerate(interleaved(services, clock, root), start=1):
            if number % CALLS_A_SWEEP == 0:
                report = services.sweeper.sweep(services.queries.experiment_ids(), ORDER)
                check(services, report, root)
                purged += report.tally.purged
                scopes.update(plan.limit.scope for plan in report.plans)
        for experiment_id in services.queries.experiment_ids():
            assert list(services.rebuilder.verify(experiment_id, lambda _: None)) == []
    assert purged > 100
    assert scopes == {limit.scope for limit in LIMITS}

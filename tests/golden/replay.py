"""Replays a trace of Syne Tune through the event log, the projections and the sweep's own planning code."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

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
from quota.projections.tables import estimators, experiments, rung_entries, rungs
from quota.services.ids import new_id
from quota.services.sweep_order import SweepOrder
from quota.services.sweep_run import SweepRun
from quota.testing.memory_store import MemoryStore
from support import HandClock

if TYPE_CHECKING:
    from pathlib import Path

    from quota.bootstrap import Services
    from quota.domain.plan import Plan
    from quota.domain.policies import Candidate

ROOT = "file:///golden"
EXPERIMENT = "golden"
TOLERANCE = 1e-9


def read_trace(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def uri_of(trial_id: object) -> str:
    return f"{ROOT}/trial-{trial_id}"


def parameters_of(header: dict[str, Any]) -> PolicyParameters:
    callback = header["callback"]
    chosen = {name: callback[name] for name in ("approx_steps", "min_data_at_rung") if name in callback}
    for ours, theirs in (("prior_mean", "prior_beta_mean"), ("prior_size", "prior_beta_size")):
        if theirs in callback:
            chosen[ours] = callback[theirs]
    policy = "syne-tune" if header["policy"] == "resume_probability" else header["policy"]
    return PolicyParameters(policy=policy, **chosen)


@dataclass
class Replay:
    """One trace against one database. Every disagreement is kept, so that a failure shows what kind it is."""

    services: Services
    clock: HandClock
    store: MemoryStore
    header: dict[str, Any]
    parameters: PolicyParameters = field(init=False)
    sweep: SweepRun = field(init=False)
    pending: list[NewEvent] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)
    loops_compared: int = 0
    scores_compared: int = 0
    evictions_compared: int = 0

    def __post_init__(self) -> None:
        self.parameters = parameters_of(self.header)
        self.order = SweepOrder(self.parameters, retention=timedelta())
        limit = self.header["callback"]["max_num_checkpoints"]
        administration = self.services.administration
        administration.add_store(ROOT)
        administration.set_limit(
            LimitSet(scope=f"experiment:{EXPERIMENT}", measure="checkpoints", high=limit, low=limit)
        )
        self.add(
            ExperimentRegistered(
                mode=self.header["mode"],
                rung_levels=tuple(self.header["rung_levels"]),
                promotion_quantiles=tuple(self.header["promotion_quantiles"]),
                max_resource=self.header["max_resource"],
                max_wallclock_seconds=self.header["callback"]["max_wallclock_time"],
            )
        )

    def add(self, payload: Event) -> None:
        self.pending.append(
            NewEvent(
                event_id=new_id(),
                experiment_id=EXPERIMENT,
                occurred_at=self.clock.moment,
                actor="syne-tune",
                payload=payload,
            )
        )

    def flush(self) -> None:
        self.services.recorder.append(self.pending)
        self.pending.clear()

    def run(self, calls: list[dict[str, Any]]) -> None:
        # One sweep, that goes on for as long as the tuner does: all that it does between two calls is planned afresh.
        with self.services.sweeper.running(self.order) as self.sweep:
            for call in calls:
                self.clock.set_seconds(call.get("t", 0.0) if call["call"] != "final" else self._last_seconds())
                getattr(self, f"on_{call['call']}")(call)

    def _last_seconds(self) -> float:
        return (self.clock.moment - HandClock().moment).total_seconds()

    def expect(self, what: str, ours: object, theirs: object) -> None:
        if ours != theirs:
            self.disagreements.append(f"{self._last_seconds():.3f} s: {what}: {ours} instead of {theirs}")

    def on_start_trial(self, call: dict[str, Any]) -> None:
        self.add(TrialStarted(trial_id=str(call["trial_id"]), bracket=call["bracket"]))

    def on_trial_result(self, call: dict[str, Any]) -> None:
        trial_id, resource, metric = str(call["trial_id"]), call["resource"], call["metric"]
        self.add(TrialReported(trial_id=trial_id, resource=resource, metric=metric))
        if call["decision"] == "PAUSE":
            uri = uri_of(trial_id)
            self.store.add_checkpoint(uri, {"weights": b"w"})
            self.add(CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=1, resource=resource))
            self.add(TrialPaused(trial_id=trial_id, level=resource, metric=metric))
        elif call["decision"] == "STOP":
            self.add(TrialStopped(trial_id=trial_id))

    def on_trial_complete(self, call: dict[str, Any]) -> None:
        self.add(TrialCompleted(trial_id=str(call["trial_id"])))

    def on_resume_trial(self, call: dict[str, Any]) -> None:
        trial_id = str(call["trial_id"])
        self.flush()
        self.add(TrialResumed(trial_id=trial_id, level=call["from_level"]))
        resumed = self.pending.pop()
        self.services.recorder.resume_trial(resumed)
        self.resumed_without = self.resumed_without + bool(call["checkpoint_lost"])

    resumed_without: int = 0

    def on_loop_end(self, call: dict[str, Any]) -> None:
        self.flush()
        (plan,) = self.sweep.plan(EXPERIMENT)
        self.loops_compared += 1
        self.expect("checkpoints_before", plan.usage, call["checkpoints_before"])
        self._compare_estimators(call)
        if "candidates" in call:
            self._compare_scores(plan, call["candidates"])
        self._compare_evictions(plan, call)
        if call["removed"]:
            self._evict(plan, [str(trial_id) for trial_id, *_ in call["removed"]])

    def _compare_estimators(self, call: dict[str, Any]) -> None:
        if "estimators" not in call:
            return
        theirs = {int(level): tuple(counts) for level, counts in call["estimators"].items()}
        theirs[0] = tuple(call["estimator_overall"])
        with self.services.database.read() as connection:
            rows = connection.execute(select(estimators).where(estimators.c.experiment_id == EXPERIMENT)).all()
        for row in rows:
            self.expect(f"estimator {row.level}", (row.ones, row.total), theirs.get(row.level, (0, 0)))

    def _compare_scores(self, plan: Plan, theirs: list[list[Any]]) -> None:
        ours = [(one.trial_id, one.level, one.rank, one.rung_length) for one in plan.scored]
        self.expect("candidates", ours, [(str(trial), *rest) for trial, *rest, _ in theirs])
        for one, (*_, score) in zip(plan.scored, theirs, strict=False):
            self.scores_compared += 1
            if one.score is None or abs(one.score - score) > TOLERANCE:
                self.disagreements.append(f"score of {one.trial_id}: {one.score} instead of {score}")

    def _compare_evictions(self, plan: Plan, call: dict[str, Any]) -> None:
        """Order and choice must be the same, but where the reference's own scores are as good as equal."""
        self.expect("evictions", len(plan.evictions), len(call["removed"]))
        scores = {str(trial): score for trial, _, _, _, score in call.get("candidates", call["removed"])}
        # Syne Tune's baseline counts ranks from 0, its callback from 1.
        first = 1 if "candidates" in call else 0
        for one, (trial, level, rank, length, score) in zip(plan.evictions, call["removed"], strict=False):
            self.evictions_compared += 1
            if one.trial_id == str(trial):
                theirs = (level, rank + 1 - first, length)
                self.expect(f"place of {trial}", (one.level, one.rank, one.rung_length), theirs)
            elif "candidates" not in call or abs(scores[one.trial_id] - score) > TOLERANCE:
                self.disagreements.append(f"evicted {one.trial_id} instead of {trial}")

    def _evict(self, plan: Plan, removed: list[str]) -> None:
        by_trial: dict[str, Candidate] = {one.trial_id: one for one in plan.scored}
        restricted = replace(plan, evictions=tuple(by_trial[trial] for trial in removed))
        evicted = self.sweep.report.tally.evicted
        self.sweep.carry_out(restricted)
        self.sweep.purge(EXPERIMENT)
        self.expect("evicted", self.sweep.report.tally.evicted - evicted, len(removed))

    def on_final(self, call: dict[str, Any]) -> None:
        self.flush()
        self.services.queries.catch_up([EXPERIMENT])
        with self.services.database.read() as connection:
            experiment = connection.execute(select(experiments)).one()
            lengths = {
                str(row.level): row.length
                for row in connection.execute(select(rungs).where(rungs.c.experiment_id == EXPERIMENT))
            }
            entries = connection.execute(
                select(rung_entries).order_by(
                    rung_entries.c.level.desc(),
                    rung_entries.c.rank_value,
                    rung_entries.c.placed_position,
                )
            ).all()
        self.expect("rung_lengths", lengths, {**dict.fromkeys(lengths, 0), **call["rung_lengths"]})
        ranks: dict[int, int] = {}
        paused = []
        for entry in entries:
            rank = ranks.get(entry.level, 0)
            ranks[entry.level] = rank + 1
            if not entry.promoted:
                paused.append([int(entry.trial_id), rank, entry.metric, entry.level])
        self.expect("paused", paused, call["paused"])
        expected = call["extra_results"]
        self.expect("num_checkpoints_removed", experiment.checkpoints_evicted, expected["num_checkpoints_removed"])
        self.expect("num_trials_resumed", experiment.trials_resumed, expected["num_trials_resumed"])
        self.expect("cost_resources", experiment.lost_resource, expected["cost_resources"])
        self.expect("resumed without", experiment.trials_resumed_without_checkpoint, self.resumed_without)

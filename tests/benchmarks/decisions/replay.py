"""Replays a trace over the product's own fold and policies, and counts what is lost."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from quota.domain.choosing import Choice, choose
from quota.domain.events import (
    CheckpointPurged,
    CheckpointSaved,
    CheckpointTrashed,
    Event,
    EvictionDecided,
    ExperimentRegistered,
    PolicyParameters,
    PurgeDecided,
    RecordedEvent,
    TrialCompleted,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)
from quota.domain.experiment import ExperimentState, Touched
from quota.domain.fold import fold_experiment
from quota.domain.keeping import Rules
from quota.domain.limits import EffectiveLimit, Limit
from quota.domain.manifest import Manifest
from quota.domain.planning import plan_experiment
from quota.domain.policies import Candidate, candidates
from quota.domain.scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.decisions.trace import Call, Trace

START = datetime(2026, 1, 1, tzinfo=UTC)
EXPERIMENT = "replayed"


@dataclass
class Replay:
    """One trace under one policy and one limit: `limit` checkpoints, or `limit_bytes` where those are given."""

    trace: Trace
    parameters: PolicyParameters
    limit: int = 0
    limit_bytes: float | None = None
    state: ExperimentState = field(default_factory=lambda: ExperimentState(EXPERIMENT))
    now: datetime = START
    evictions: int = 0

    def run(self) -> int:
        """Return the resource lost: the levels of the trials that were resumed without their checkpoint."""
        header = self.trace.header
        self._add(
            ExperimentRegistered(
                mode=header["mode"],
                rung_levels=tuple(header["rung_levels"]),
                promotion_quantiles=tuple(header["promotion_quantiles"]),
                max_resource=header["max_resource"],
                max_wallclock_seconds=header["callback"]["max_wallclock_time"],
            )
        )
        for call in self.trace.calls:
            if "t" in call:
                self.now = START + timedelta(seconds=call["t"])
            for payload in self._payloads(call):
                self._add(payload)
            if call["call"] == "loop_end":
                for candidate in self._wanted():
                    self._evict(candidate)
        return self.state.registered.lost_resource

    def _add(self, payload: Event) -> None:
        position = self.state.position + 1
        fold_experiment(
            self.state,
            RecordedEvent(
                event_id=str(uuid.UUID(int=position)),
                experiment_id=EXPERIMENT,
                position=position,
                occurred_at=self.now,
                recorded_at=self.now,
                actor="benchmark",
                payload=payload,
            ),
        )
        self.state.touched = Touched()

    def _payloads(self, call: Call) -> list[Event]:
        trial_id = str(call.get("trial_id"))
        match call["call"]:
            case "start_trial":
                return [TrialStarted(trial_id=trial_id, bracket=call.get("bracket", 0))]
            case "trial_result":
                return self._reported(trial_id, call)
            case "trial_complete" if not self.state.trials[trial_id].has_ended:
                return [TrialCompleted(trial_id=trial_id)]
            case "resume_trial":
                return [TrialResumed(trial_id=trial_id, level=self.state.trials[trial_id].level or 0)]
            case _:
                return []

    def _reported(self, trial_id: str, call: Call) -> list[Event]:
        resource, metric = call["resource"], call["metric"]
        found: list[Event] = [TrialReported(trial_id=trial_id, resource=resource, metric=metric)]
        if call["decision"] == "PAUSE":
            size = self.trace.sizes[trial_id]
            uri = f"memory://store/{trial_id}/"
            found += [
                CheckpointSaved(trial_id=trial_id, uri=uri, size_bytes=size, resource=resource),
                TrialPaused(trial_id=trial_id, level=resource, metric=metric),
            ]
        elif call["decision"] == "STOP":
            found.append(TrialStopped(trial_id=trial_id))
        return found

    def _wanted(self) -> Sequence[Candidate]:
        if self.limit_bytes is not None:
            return self._wanted_for_bytes(self.limit_bytes)
        limit = Limit(f"experiment:{EXPERIMENT}", "checkpoints", self.limit, self.limit, START, "benchmark")
        # Of a running trial nothing can go, and what it has written counts as one checkpoint in any case.
        running = {one.trial_id for one in self.state.trials.values() if one.status == "running"}
        own = EffectiveLimit(limit, Scope.of_experiment(EXPERIMENT))
        (plan,) = plan_experiment(self.state, [own], self._rules, lambda _: None)
        assert not running & {one.trial_id for one in plan.evictions}
        return plan.evictions

    def _wanted_for_bytes(self, limit_bytes: float) -> list[Candidate]:
        """Choose what frees enough, as the planner does; what trials that have ended leave is their tuner's affair."""
        held = sum(
            self.trace.sizes[one.trial_id]
            for one in self.state.trials.values()
            if one.status == "running" or (one.status == "paused" and one.stored_checkpoints)
        )
        if held <= limit_bytes:
            return []
        pool = [Choice(EXPERIMENT, one) for one in candidates(self.state, self._rules) if one.counts]
        chosen = choose(pool, math.ceil(held - limit_bytes), "bytes", self.parameters)
        return [one.candidate for one in chosen]

    @property
    def _rules(self) -> Rules:
        return Rules(parameters=self.parameters, now=self.now)

    def _evict(self, candidate: Candidate) -> None:
        self.evictions += 1
        decision_id = str(uuid.UUID(int=self.evictions))
        trial_id = candidate.trial_id
        self._add(
            EvictionDecided(
                decision_id=decision_id,
                trial_id=trial_id,
                sweep_id=decision_id,
                uri=candidate.uri,
                store_uri="memory://store",
                checkpoint_position=candidate.saved_position,
                size_bytes=candidate.size_bytes,
                manifest=Manifest(entries=()),
                reason=candidate.reason,
                state_position=self.state.position,
                place=1,
            )
        )
        self._add(CheckpointTrashed(decision_id=decision_id, trial_id=trial_id))
        self._add(PurgeDecided(decision_id=decision_id, trial_id=trial_id))
        self._add(CheckpointPurged(decision_id=decision_id, trial_id=trial_id, freed_bytes=candidate.size_bytes))

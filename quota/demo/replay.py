"""Replays the recorded run: its events into a new database, its checkpoints as real directories, a sweep a loop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from quota.bootstrap import Services, open_store, services
from quota.client import as_uri, connect
from quota.demo.trace import Call, recorded_calls
from quota.domain.events import (
    CheckpointMissing,
    CheckpointSaved,
    Event,
    ExperimentFinished,
    ExperimentRegistered,
    LimitSet,
    NewEvent,
    PolicyParameters,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)
from quota.errors import SettingsRefused
from quota.services.ids import new_id
from quota.services.sweep_order import SweepOrder

EXPERIMENT = "digits-asha"
ACTOR = "demo"
RETENTION = timedelta(minutes=1)

_SINCE_RECORDED = timedelta(days=36_500)
"""The replay's files are written now, and its clock shows when the run was recorded: nothing follows from that."""


@dataclass(slots=True)
class ReplayClock:
    """Shows the time of the recorded run."""

    moment: datetime

    def now(self) -> datetime:
        """Return the time of the call that is being replayed."""
        return self.moment


@dataclass(slots=True)
class Outcome:
    """What the replay saw that the database does not say.

    Attributes:
        directory: Where everything lies.
        loops: Tuner loops, and so sweeps.
        peak_bytes: Most bytes of checkpoints at their places and in the trash together.
        peak_stored_bytes: Most bytes of checkpoints at their places.
        peak_unlimited_bytes: Most bytes that would have been there if nothing had been evicted.
        peak_checkpoints: Most checkpoints that counted after a sweep.
        peak_unlimited_checkpoints: Most that would have counted if nothing had been evicted.
    """

    directory: Path
    loops: int = 0
    peak_bytes: int = 0
    peak_stored_bytes: int = 0
    peak_unlimited_bytes: int = 0
    peak_checkpoints: int = 0
    peak_unlimited_checkpoints: int = 0


@dataclass(slots=True)
class Replay:
    """A replay under way.

    Attributes:
        sizes: Size of the checkpoint of each trial that the tuner has not ended, evicted or not.
    """

    services: Services
    clock: ReplayClock
    root: Path
    started_at: float
    order: SweepOrder
    outcome: Outcome
    pending: list[NewEvent] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    def play(self, call: Call) -> None:
        """Do what the tuner did."""
        if "t" in call:
            self.clock.moment = datetime.fromtimestamp(self.started_at + call["t"], UTC)
        trial_id = str(call.get("trial_id"))
        match call["call"]:
            case "start_trial":
                self.add(TrialStarted(trial_id=trial_id, config=call["config"]))
            case "trial_result":
                self._report(trial_id, call)
            case "resume_trial":
                self._resume(trial_id)
            case "loop_end":
                self._flush()
                self._sweep()
            case _:
                pass

    def finish(self) -> None:
        """Record the end of the experiment."""
        self.add(ExperimentFinished())
        self._flush()
        self.services.queries.catch_up([EXPERIMENT])

    def add(self, payload: Event) -> None:
        """Note an event; it is stored with the next sweep or resume."""
        self.pending.append(
            NewEvent(
                event_id=new_id(),
                experiment_id=EXPERIMENT,
                occurred_at=self.clock.moment,
                actor=ACTOR,
                payload=payload,
            )
        )

    def _flush(self) -> None:
        self.services.recorder.append(self.pending)
        self.pending.clear()

    def _report(self, trial_id: str, call: Call) -> None:
        resource, metric, size = call["resource"], call["metric"], call["checkpoint_bytes"]
        self.add(TrialReported(trial_id=trial_id, resource=resource, metric=metric))
        if size is not None:
            self._write(trial_id, resource, size)
            self.add(
                CheckpointSaved(
                    trial_id=trial_id, uri=as_uri(self._place(trial_id)), size_bytes=size, resource=resource
                )
            )
        if call["decision"] == "PAUSE":
            self.add(TrialPaused(trial_id=trial_id, level=resource, metric=metric))
        elif call["decision"] == "STOP":
            self._stop(trial_id)

    def _stop(self, trial_id: str) -> None:
        """End a trial as Syne Tune does, which then deletes the checkpoint by itself."""
        self.add(TrialStopped(trial_id=trial_id))
        if self.sizes.pop(trial_id, None) is not None:
            shutil.rmtree(self._place(trial_id))
            self.add(CheckpointMissing(trial_id=trial_id, uri=as_uri(self._place(trial_id))))

    def _resume(self, trial_id: str) -> None:
        self._flush()
        level = self.services.queries.ask(
            "SELECT level FROM trial_history WHERE experiment_id = :experiment_id AND trial_id = :trial_id"
            " AND type = 'trial_paused' ORDER BY position DESC LIMIT 1",
            experiment_id=EXPERIMENT,
            trial_id=trial_id,
        )[0]["level"]
        self.add(TrialResumed(trial_id=trial_id, level=level))
        self.services.recorder.resume_trial(self.pending.pop())

    def _place(self, trial_id: str) -> Path:
        return self.root / f"trial-{trial_id}"

    def _write(self, trial_id: str, resource: int, size: int) -> None:
        """Write a checkpoint of the recorded size, in the trial's one place."""
        place = self._place(trial_id)
        place.mkdir(exist_ok=True)
        about = json.dumps({"trial_id": trial_id, "epoch": resource}).encode()
        (place / "about.json").write_bytes(about)
        (place / "weights.bin").write_bytes(bytes(size - len(about)))
        self.sizes[trial_id] = size

    def _sweep(self) -> None:
        outcome = self.outcome
        self._watch_bytes()
        self.services.sweeper.sweep([EXPERIMENT], self.order)
        outcome.loops += 1
        usage = self._usage()
        outcome.peak_checkpoints = max(outcome.peak_checkpoints, usage["held_checkpoints"])

    def _watch_bytes(self) -> None:
        """Look before the sweep, when most is there."""
        outcome, usage = self.outcome, self._usage()
        unlimited = sum(self.sizes.values())
        outcome.peak_stored_bytes = max(outcome.peak_stored_bytes, usage["stored_bytes"])
        outcome.peak_bytes = max(outcome.peak_bytes, usage["stored_bytes"] + usage["trashed_bytes"])
        outcome.peak_unlimited_bytes = max(outcome.peak_unlimited_bytes, unlimited)
        outcome.peak_unlimited_checkpoints = max(outcome.peak_unlimited_checkpoints, len(self.sizes))

    def _usage(self) -> dict[str, int]:
        self.services.queries.catch_up([EXPERIMENT])
        return self.services.queries.ask(
            "SELECT held_checkpoints, stored_bytes, trashed_bytes FROM usage WHERE experiment_id = :experiment_id",
            experiment_id=EXPERIMENT,
        )[0]


def replay(directory: Path, parameters: PolicyParameters, limit: int, tick: Callable[[int, int], None]) -> Outcome:
    """Replay the recorded run into a new directory.

    Args:
        directory: Is made; gets `quota.db` and `checkpoints/`.
        parameters: The policy.
        limit: How many checkpoints may be kept.
        tick: Is told how many of how many calls are replayed.

    Raises:
        SettingsRefused: the directory exists already.
    """
    try:
        (directory / "checkpoints").mkdir(parents=True)
    except FileExistsError as error:
        reason = "it exists already; remove it, or choose another with --directory"
        raise SettingsRefused("demo", "directory", str(directory), reason) from error
    except OSError as error:
        raise SettingsRefused("demo", "directory", str(directory), f"it cannot be made: {error.strerror}") from error
    url = f"sqlite:///{directory / 'quota.db'}"
    connect(url, actor=ACTOR).close()
    header, calls = recorded_calls()
    clock = ReplayClock(datetime.fromtimestamp(header["started_at"], UTC))
    with services(url, ACTOR, clock=clock, opener=open_store) as found:
        root = (directory / "checkpoints").resolve()
        found.administration.add_store(as_uri(root))
        found.administration.set_limit(
            LimitSet(scope=f"experiment:{EXPERIMENT}", measure="checkpoints", high=limit, low=limit)
        )
        run = Replay(
            services=found,
            clock=clock,
            root=root,
            started_at=header["started_at"],
            order=SweepOrder(parameters, RETENTION, clock_tolerance=_SINCE_RECORDED),
            outcome=Outcome(directory),
        )
        run.add(_registration(header))
        for done, call in enumerate(calls, start=1):
            run.play(call)
            tick(done, len(calls))
        run.finish()
    return run.outcome


def _registration(header: Call) -> ExperimentRegistered:
    return ExperimentRegistered(
        mode=header["mode"],
        rung_levels=tuple(header["rung_levels"]),
        promotion_quantiles=tuple(header["promotion_quantiles"]),
        max_resource=header["max_resource"],
        max_wallclock_seconds=header["callback"]["max_wallclock_time"],
        labels={"tuner": "syne-tune", "data": "digits"},
    )

"""The Python API: what a tuner, or a callback inside one, talks to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from quota.bootstrap import Services, services
from quota.domain.events import (
    CheckpointMissing,
    CheckpointPinned,
    CheckpointSaved,
    CheckpointUnpinned,
    Event,
    ExperimentFinished,
    ExperimentRegistered,
    NewEvent,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialResumed,
    TrialStarted,
    TrialStopped,
)
from quota.domain.events.trial import ConfigValue
from quota.domain.locations import file_location
from quota.errors import PathRefused
from quota.eventlog.database_urls import parse_url, sqlite_path
from quota.eventlog.log import Receipt
from quota.services.ids import new_id
from quota.services.recording import LoadableCheckpoint
from quota.settings import load_settings


def connect(url: str | None = None, *, actor: str | None = None) -> Quota:
    """Open a database for recording; use the answer as a context manager.

    A SQLite file that does not exist yet, or is empty, is made ready. A PostgreSQL database is made ready by its
    owner, with `ckpt-quota db upgrade`.

    Args:
        url: SQLAlchemy URL: `sqlite:////var/lib/quota/quota.db` or `postgresql+psycopg://user@host/name`. By default
            that of the settings, as for the command line.
        actor: In whose name events are recorded; by default that of the settings, or `user@host`.

    Raises:
        SettingsRefused: the URL is refused.
        DatabaseUnavailable: the database cannot be reached.
        SchemaMismatch: the database's schema is older or newer than this software.
    """
    settings = load_settings(database=url, actor=actor)
    return Quota(settings.database, settings.actor)


class Quota(AbstractContextManager["Quota"]):
    """An open database. May be used by several threads, and not across a fork."""

    def __init__(self, url: str, actor: str) -> None:
        self._actor = actor
        self._stack = ExitStack()
        path = sqlite_path(parse_url(url))
        if path is not None and (not path.exists() or path.stat().st_size == 0):
            _make_ready(url)
        self._services: Services = self._stack.enter_context(services(url, actor))

    def register_experiment(
        self,
        experiment_id: str,
        *,
        mode: Literal["min", "max"],
        rung_levels: Sequence[int],
        promotion_quantiles: Sequence[float],
        max_resource: int,
        max_wallclock_seconds: float | None = None,
        labels: Mapping[str, str] | None = None,
        occurred_at: datetime | None = None,
    ) -> ExperimentHandle:
        """Register an experiment, and return a handle to record with.

        Registering it again with the same arguments, as a tuner does that was restarted, changes nothing.

        Raises:
            BadInput: an argument is refused, or the experiment is registered with others.
        """
        handle = ExperimentHandle(self._services, self._actor, experiment_id)
        handle.record(
            ExperimentRegistered(
                mode=mode,
                rung_levels=tuple(rung_levels),
                promotion_quantiles=tuple(promotion_quantiles),
                max_resource=max_resource,
                max_wallclock_seconds=max_wallclock_seconds,
                labels=dict(labels or {}),
            ),
            occurred_at,
        )
        return handle

    def experiment(self, experiment_id: str) -> ExperimentHandle:
        """Return a handle for an experiment that is registered already."""
        self._services.queries.require(experiment_id)
        return ExperimentHandle(self._services, self._actor, experiment_id)

    def append(self, batch: Sequence[NewEvent]) -> list[Receipt]:
        """Store events of any experiments, all of them or none.

        Raises:
            BadInput: an event is refused; nothing of the batch was stored.
        """
        return self._services.recorder.append(batch)

    def close(self) -> None:
        """Close the database."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class ExperimentHandle:
    """Records the events of one experiment: a method an event, a commit a call.

    All methods take `occurred_at` (aware; now by default) and raise `BadInput` where the event is refused.
    """

    def __init__(self, services: Services, actor: str, experiment_id: str) -> None:
        self._services = services
        self._actor = actor
        self.experiment_id = experiment_id

    def event(self, payload: Event, occurred_at: datetime | None = None, event_id: str | None = None) -> NewEvent:
        """Put an event of this experiment into an envelope, for `Quota.append`."""
        return NewEvent(
            event_id=event_id or new_id(),
            experiment_id=self.experiment_id,
            occurred_at=occurred_at or datetime.now(UTC),
            actor=self._actor,
            payload=payload,
        )

    def record(self, payload: Event, occurred_at: datetime | None = None) -> Receipt:
        """Record one event."""
        event = self.event(payload, occurred_at)
        # The caller has never seen the event's id.
        trial = "" if payload.about_trial is None else f" of trial {payload.about_trial}"
        name = f"{payload.TYPE}{trial} of experiment {self.experiment_id}"
        return self._services.recorder.append([event], {event.event_id: name})[0]

    def trial_started(
        self,
        trial_id: str,
        *,
        bracket: int = 0,
        config: Mapping[str, ConfigValue] | None = None,
        occurred_at: datetime | None = None,
    ) -> Receipt:
        """Record that a new trial runs."""
        return self.record(TrialStarted(trial_id=trial_id, bracket=bracket, config=dict(config or {})), occurred_at)

    def trial_reported(
        self, trial_id: str, *, resource: int, metric: float, occurred_at: datetime | None = None
    ) -> Receipt:
        """Record a running trial's report. Send it before the pause that follows from it."""
        return self.record(TrialReported(trial_id=trial_id, resource=resource, metric=metric), occurred_at)

    def trial_paused(self, trial_id: str, *, level: int, metric: float, occurred_at: datetime | None = None) -> Receipt:
        """Record that a trial is paused at a rung. From here on its checkpoint may be evicted."""
        return self.record(TrialPaused(trial_id=trial_id, level=level, metric=metric), occurred_at)

    def resume_trial(
        self, trial_id: str, *, level: int, occurred_at: datetime | None = None, event_id: str | None = None
    ) -> LoadableCheckpoint | None:
        """Record that a trial is resumed, and learn which checkpoint to load.

        Call it before the trial runs. Where it raises `DatabaseUnavailable` it may have been recorded all the same;
        whoever wants to repeat it then chooses an id and a time beforehand, and gives the same ones again.

        Args:
            trial_id: The trial.
            level: The rung level that it is paused at.
            occurred_at: When; now by default.
            event_id: A UUID, and a new one by default. The same event sent again is stored once.

        Returns:
            The checkpoint, safe until the trial pauses again; None where the trial starts from scratch.
        """
        event = self.event(TrialResumed(trial_id=trial_id, level=level), occurred_at, event_id)
        return self._services.recorder.resume_trial(event).checkpoint

    def promised_checkpoint(self, trial_id: str) -> LoadableCheckpoint | None:
        """Return what a running trial may load: for a tuner that was killed, and goes on with its trials.

        Returns:
            The latest checkpoint that the trial has saved since it was started or resumed, or else what `resume_trial`
            answered; safe until the trial pauses. None where it starts from scratch.

        Raises:
            StateRefused: there is no such trial, or it does not run.
        """
        return self._services.recorder.promised_checkpoint(self.experiment_id, trial_id)

    def trial_stopped(self, trial_id: str, *, occurred_at: datetime | None = None) -> Receipt:
        """Record that the tuner ended a trial."""
        return self.record(TrialStopped(trial_id=trial_id), occurred_at)

    def trial_completed(self, trial_id: str, *, occurred_at: datetime | None = None) -> Receipt:
        """Record that a trial has consumed all its resource."""
        return self.record(TrialCompleted(trial_id=trial_id), occurred_at)

    def trial_failed(self, trial_id: str, *, error: str = "", occurred_at: datetime | None = None) -> Receipt:
        """Record that a trial ended with an error."""
        return self.record(TrialFailed(trial_id=trial_id, error=error), occurred_at)

    def checkpoint_saved(
        self,
        trial_id: str,
        *,
        location: str | Path,
        size_bytes: int,
        resource: int,
        occurred_at: datetime | None = None,
    ) -> Receipt:
        """Record that a trial has written a checkpoint, at a URI or an absolute path."""
        payload = CheckpointSaved(trial_id=trial_id, uri=as_uri(location), size_bytes=size_bytes, resource=resource)
        return self.record(payload, occurred_at)

    def checkpoint_missing(
        self, trial_id: str, *, location: str | Path, occurred_at: datetime | None = None
    ) -> Receipt:
        """Record that a checkpoint is gone though we did not evict it, e.g. because the tuner deleted it."""
        return self.record(CheckpointMissing(trial_id=trial_id, uri=as_uri(location)), occurred_at)

    def checkpoint_pinned(self, trial_id: str, *, location: str | Path, occurred_at: datetime | None = None) -> Receipt:
        """Keep a checkpoint from being evicted."""
        return self.record(CheckpointPinned(trial_id=trial_id, uri=as_uri(location)), occurred_at)

    def checkpoint_unpinned(
        self, trial_id: str, *, location: str | Path, occurred_at: datetime | None = None
    ) -> Receipt:
        """Let a checkpoint be evicted again."""
        return self.record(CheckpointUnpinned(trial_id=trial_id, uri=as_uri(location)), occurred_at)

    def finished(self, *, occurred_at: datetime | None = None) -> Receipt:
        """Record that the experiment has ended: none of its trials will be resumed."""
        return self.record(ExperimentFinished(), occurred_at)


def as_uri(location: str | Path) -> str:
    """Return the URI of a location that is given as a URI or as an absolute path.

    Raises:
        PathRefused: it is a `Path` that is relative. Text that is neither is returned as it is.
    """
    if isinstance(location, str) and not location.startswith("/"):
        return location
    if not Path(location).is_absolute():
        reason = "a path is absolute, e.g. /scratch/hpo/trial-1; write it out, or call `.resolve()` where it holds"
        raise PathRefused("checkpoint", "location", str(location), reason)
    return file_location(os.fsencode(location)).uri


def _make_ready(url: str) -> None:
    """Make the tables of a new SQLite database."""
    from quota.eventlog.database import Database  # noqa: PLC0415 - Alembic is slow to load, and needed here only
    from quota.services.migrating import upgrade  # noqa: PLC0415

    database = Database(url)
    try:
        upgrade(database)
    finally:
        database.close()

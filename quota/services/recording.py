"""Recording: what tuners send is appended under the stream's lock, if the stream admits it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path

import msgspec

from quota.domain.admission import admission_refusal
from quota.domain.events import (
    RECORDER_EVENTS,
    CheckpointSaved,
    NewEvent,
    TrialResumed,
    instant_problem,
)
from quota.domain.experiment import Trial
from quota.domain.identifiers import event_id_problem, id_problem
from quota.domain.locations import parse_location
from quota.domain.refusal import Refusal, RefusalKind
from quota.domain.wire import MAX_EVENT_BYTES, recheck
from quota.errors import StateRefused
from quota.eventlog.log import Prepared, Receipt
from quota.projections.projector import LockedExperiment, Projector
from quota.services.appending import Appender
from quota.services.refusing import error_for, location_refusal, named
from quota.services.rescuing import Rescuer
from quota.services.returning import OrphanReturner


@dataclass(frozen=True, slots=True)
class LoadableCheckpoint:
    """A checkpoint that a resumed trial may load: nothing will claim it before the trial pauses again.

    Attributes:
        uri: Where it lies.
        resource: Units of resource that had been consumed when it was written.
    """

    uri: str
    resource: int

    @property
    def path(self) -> Path:
        """Where it lies on this host's disks.

        Raises:
            ValueError: it lies elsewhere.
        """
        location = parse_location(self.uri)
        if location.scheme != "file":
            message = f"checkpoint {self.uri} lies on no local disk; load it by its `uri`"
            raise ValueError(message)
        return Path("/", *(os.fsdecode(component) for component in location.components))


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a resumed trial is told.

    Attributes:
        receipt: Where the resume stands in the log.
        checkpoint: What to load; None where the trial starts from scratch.
    """

    receipt: Receipt
    checkpoint: LoadableCheckpoint | None


class Recorder:
    """Appends what tuners send.

    Args:
        appender: In whose name.
        projector: Gives the states by which events are admitted.
        rescuer: Sees to it that what a resume loads, and what a save speaks of, is there.
        returner: Gives back what was taken for an orphan.
    """

    def __init__(self, appender: Appender, projector: Projector, rescuer: Rescuer, returner: OrphanReturner) -> None:
        self.appender = appender
        self._projector = projector
        self._rescuer = rescuer
        self._returner = returner

    def append(self, batch: Sequence[NewEvent], names: Mapping[str, str] | None = None) -> list[Receipt]:
        """Store a batch whole, or nothing of it.

        Args:
            batch: Events of any experiments; those of one experiment in their order.
            names: How to name an event in a message, by event id; e.g. by its line in a file.

        Returns:
            One receipt an event, in the batch's order. An event that the log held before is not stored again.

        Raises:
            BadInput: an event of the batch is refused; nothing was stored.
            DatabaseUnavailable: the database did not take it; sending the same events again is safe.
        """
        if not batch:
            return []
        names = names or {}
        prepared = [self._prepared(new, names.get(new.event_id)) for new in batch]
        for new in batch:
            if isinstance(new.payload, TrialResumed):
                self._returner.give_back(new.experiment_id, new.payload.trial_id)
        with self._projector.locked(new.experiment_id for new in batch) as locked:
            return self._append(locked, prepared, names)

    def resume_trial(self, resumed: NewEvent) -> Resumption:
        """Record that a trial is resumed, and tell it what to load.

        A checkpoint that was about to be evicted is kept, one in the trash is moved back: a resume always wins,
        or knows.

        Args:
            resumed: An event whose payload is `TrialResumed`.

        Raises:
            BadInput: the trial is not paused at that level; or this very event has been stored before, and the trial
                has been paused or has ended since, so that nothing is kept for it any more.
        """
        prepared = self._prepared(resumed, None)
        resumed = prepared.event
        trial_id = resumed.payload.about_trial or ""
        self._returner.give_back(resumed.experiment_id, trial_id)
        with self._projector.locked([resumed.experiment_id]) as all_locked:
            locked = all_locked[resumed.experiment_id]
            connection = locked.stream.connection
            known = self.appender.log.stored_before(connection, [prepared]).get(resumed.event_id)
            if known is None:
                refusal = admission_refusal(locked.state, resumed.payload)
                if refusal is not None:
                    raise error_for(named(resumed), refusal)
                self._rescuer.rescue_for_resume(locked, trial_id)
                position = self.appender.add_event(locked, prepared)
                known = Receipt(resumed.event_id, resumed.experiment_id, position, stored_before=False)
            trial = locked.state.trials[trial_id]
            if trial.status != "running" or trial.resumed_position != known.position:
                since = f"the trial has gone on since (it is {trial.status})"
                reason = f"this resume is stored already, and {since}; send a new one"
                raise error_for(named(resumed), Refusal(RefusalKind.STATE, "trial_id", trial_id, reason))
            return Resumption(known, self._promised(locked, trial))

    def promised_checkpoint(self, experiment_id: str, trial_id: str) -> LoadableCheckpoint | None:
        """Return what a running trial may load: the latest that it has saved, or else what its last resume promised it.

        Raises:
            StateRefused: there is no such trial, or it does not run.
        """
        self._returner.give_back(experiment_id, trial_id)
        with self._projector.locked([experiment_id]) as all_locked:
            locked = all_locked[experiment_id]
            trial = locked.state.trials.get(trial_id)
            if trial is None or trial.status != "running":
                reason = "it does not run, so nothing is kept for it; resume it first"
                raise StateRefused(f"trial {trial_id} of experiment {experiment_id}", "trial_id", trial_id, reason)
            return self._latest(locked, trial)

    def _latest(self, locked: LockedExperiment, trial: Trial) -> LoadableCheckpoint | None:
        """Return the latest of what a trial has saved since it was started or resumed, and of what it was promised."""
        since = trial.resumed_position or 0
        for uri in reversed(locked.state.trial_uris.get(trial.trial_id, [])):
            checkpoint = locked.state.checkpoints[uri]
            is_its_own = checkpoint.saved_position > since or uri == trial.promised_uri
            if is_its_own and self._rescuer.is_to_be_loaded(locked, uri):
                return LoadableCheckpoint(uri, checkpoint.resource)
        return None

    def _promised(self, locked: LockedExperiment, trial: Trial) -> LoadableCheckpoint | None:
        if trial.promised_uri is None:
            return None
        checkpoint = locked.state.checkpoints[trial.promised_uri]
        if checkpoint.state == "stored":
            # A resume that was only appended has not looked, and what was there may be gone by now.
            self._rescuer.look_for(locked, checkpoint.uri)
        return LoadableCheckpoint(checkpoint.uri, checkpoint.resource) if checkpoint.state == "stored" else None

    def _append(
        self, locked: Mapping[str, LockedExperiment], batch: Sequence[Prepared], names: Mapping[str, str]
    ) -> list[Receipt]:
        connection = next(iter(locked.values())).stream.connection
        receipts = self.appender.log.stored_before(connection, batch, names)
        answer: list[Receipt] = []
        held_deployment = cache(partial(self._projector.held_deployment, connection))
        for prepared in batch:
            new = prepared.event
            known = receipts.get(new.event_id)
            if known is None:
                experiment = locked[new.experiment_id]
                refusal = admission_refusal(experiment.state, new.payload)
                refusal = refusal or location_refusal(experiment, new.payload, held_deployment)
                if refusal is not None:
                    raise error_for(names.get(new.event_id) or named(new), refusal)
                position = self._add(experiment, prepared)
                known = Receipt(new.event_id, new.experiment_id, position, stored_before=False)
                receipts[new.event_id] = Receipt(new.event_id, new.experiment_id, position, stored_before=True)
            answer.append(known)
        return answer

    def _add(self, locked: LockedExperiment, prepared: Prepared) -> int:
        payload = prepared.event.payload
        if isinstance(payload, TrialResumed):
            self._rescuer.bring_back_for_resume(locked, payload.trial_id)
        if not isinstance(payload, CheckpointSaved) or not self._rescuer.may_be_elsewhere(locked, payload.uri):
            return self.appender.add_event(locked, prepared)
        self._rescuer.bring_back_for_save(locked, payload.uri)
        position = self.appender.add_event(locked, prepared)
        self._rescuer.look_for(locked, payload.uri)
        return position

    @staticmethod
    def _prepared(new: NewEvent, name: str | None) -> Prepared:
        """Check an event by itself, and encode it before any lock is taken."""
        refusal = _envelope_refusal(new)
        payload = refusal or recheck(new.payload)
        if isinstance(payload, Refusal):
            raise error_for(name or named(new), payload)
        prepared = Prepared.of(msgspec.structs.replace(new, payload=payload))
        size = len(prepared.data.encode())
        if size > MAX_EVENT_BYTES:
            reason = f"an event's data has at most {MAX_EVENT_BYTES} bytes, this one has {size}"
            raise error_for(name or named(new), Refusal(RefusalKind.IDENTITY, "data", f"{size} bytes", reason))
        return prepared


def _envelope_refusal(new: NewEvent) -> Refusal | None:
    identity = RefusalKind.IDENTITY
    for field, problem_of in (("event_id", event_id_problem), ("experiment_id", id_problem), ("actor", id_problem)):
        value: object = getattr(new, field)
        problem = problem_of(value) if isinstance(value, str) else "this must be text"
        if problem is not None:
            return Refusal(identity, field, value, problem)
    if new.payload.TYPE not in RECORDER_EVENTS:
        return Refusal(identity, "type", new.payload.TYPE, "a recorder may not send this type")
    moment: object = new.occurred_at
    problem = instant_problem(moment) if isinstance(moment, datetime) else "this is no time"
    if problem is not None:
        reason = f"{problem}; give an aware datetime, e.g. datetime.now(UTC)"
        return Refusal(RefusalKind.TIME, "occurred_at", str(new.occurred_at), reason)
    return None

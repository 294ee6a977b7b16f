"""Whether an event may follow what a stream already says.

Late news is kept (tuners do send it, and the fold gives it no effect); what contradicts the stream is refused.
"""

from __future__ import annotations

from quota.domain.events import (
    CheckpointAdopted,
    CheckpointMissing,
    CheckpointPinned,
    CheckpointSaved,
    CheckpointUnpinned,
    Event,
    ExperimentRegistered,
    TrialPaused,
    TrialResumed,
    TrialStarted,
)
from quota.domain.experiment import AT_ITS_PLACE, Experiment, ExperimentState, Trial
from quota.domain.refusal import Refusal, RefusalKind

_MOST_BYTES = 2**62
"""What an experiment's checkpoints may add up to as reported: twice that is what a database's integers hold, and files
that are found larger than they were said to be come on top."""


def admission_refusal(state: ExperimentState, payload: Event) -> Refusal | None:
    """Say why `payload` may not be the next event of the stream, or None.

    `state` reflects the whole stream. Only events that recorders send are judged here, and adoptions.
    """
    if isinstance(payload, ExperimentRegistered):
        return _registration_refusal(state, payload)
    if state.experiment is None:
        reason = "no such experiment; register it first (event experiment_registered)"
        return Refusal(RefusalKind.IDENTITY, "experiment_id", state.experiment_id, reason)
    if payload.about_trial is None:
        return None
    trial = state.trials.get(payload.about_trial)
    if isinstance(payload, TrialStarted):
        return _start_refusal(state.experiment, trial, payload)
    if trial is None:
        reason = f"experiment {state.experiment_id} has no such trial; start it first (event trial_started)"
        return Refusal(RefusalKind.IDENTITY, "trial_id", payload.about_trial, reason)
    match payload:
        case TrialPaused():
            return _pause_refusal(state, trial, payload)
        case TrialResumed():
            return _resume_refusal(state.experiment, trial, payload)
        case CheckpointSaved() | CheckpointAdopted():
            return _save_refusal(state, payload)
        case CheckpointPinned() | CheckpointUnpinned() | CheckpointMissing():
            return _known_refusal(state, payload)
        case _:
            return None


def _registration_refusal(state: ExperimentState, payload: ExperimentRegistered) -> Refusal | None:
    if state.experiment is None:
        return None
    known = ExperimentRegistered(
        mode=state.experiment.mode,
        rung_levels=tuple(state.rungs),
        promotion_quantiles=tuple(rung.promotion_quantile for rung in state.rungs.values()),
        max_resource=state.experiment.max_resource,
        max_wallclock_seconds=state.experiment.max_wallclock_seconds,
        labels=state.experiment.labels,
    )
    for field in known.__struct_fields__:
        said, sent = getattr(known, field), getattr(payload, field)
        if said != sent:
            reason = f"the experiment is registered already, with {said!r}; choose another experiment_id"
            return Refusal(RefusalKind.STATE, field, sent, reason)
    return None


def _start_refusal(experiment: Experiment, trial: Trial | None, payload: TrialStarted) -> Refusal | None:
    if trial is not None:
        reason = f"the trial has started already and is {trial.status}; a trial starts once, later it is resumed"
        return Refusal(RefusalKind.STATE, "trial_id", payload.trial_id, reason)
    return _finished_refusal(experiment, payload.trial_id)


def _finished_refusal(experiment: Experiment, trial_id: str) -> Refusal | None:
    if experiment.finished_at is None:
        return None
    reason = "the experiment is finished, none of its trials can run; register a new experiment"
    return Refusal(RefusalKind.STATE, "trial_id", trial_id, reason)


def _pause_refusal(state: ExperimentState, trial: Trial, payload: TrialPaused) -> Refusal | None:
    if payload.level not in state.rungs:
        levels = ", ".join(map(str, state.rungs))
        reason = f"no rung has this level; rung levels are {levels}"
        return Refusal(RefusalKind.NUMBER, "level", payload.level, reason)
    if trial.status != "running":
        reason = f"only a running trial can be paused, this one is {trial.status}"
        return Refusal(RefusalKind.STATE, "trial_id", payload.trial_id, reason)
    if trial.level is not None and payload.level < trial.level:
        reason = f"the trial was paused at level {trial.level} before, it cannot be paused below that"
        return Refusal(RefusalKind.NUMBER, "level", payload.level, reason)
    return None


def _resume_refusal(experiment: Experiment, trial: Trial, payload: TrialResumed) -> Refusal | None:
    if trial.status != "paused":
        reason = f"only a paused trial can be resumed, this one is {trial.status}"
        return Refusal(RefusalKind.STATE, "trial_id", payload.trial_id, reason)
    if payload.level != trial.level:
        reason = f"the trial is paused at level {trial.level}"
        return Refusal(RefusalKind.STATE, "level", payload.level, reason)
    return _finished_refusal(experiment, payload.trial_id)


def _adoption_refusal(state: ExperimentState, payload: CheckpointAdopted) -> Refusal | None:
    known = state.checkpoints.get(payload.uri)
    if known is not None and known.state in AT_ITS_PLACE:
        reason = f"the log knows it already, as trial {known.trial_id}'s at resource {known.resource}"
        return Refusal(RefusalKind.STATE, "uri", payload.uri, reason)
    newest = state.newest_stored(payload.trial_id)
    if newest is not None and newest.resource > payload.resource:
        reason = (
            f"its trial has a later checkpoint, of resource {newest.resource}, at {newest.uri}; what is adopted counts "
            "as the trial's latest, and a resume would load it instead"
        )
        return Refusal(RefusalKind.STATE, "resource", payload.resource, reason)
    return None


def _save_refusal(state: ExperimentState, payload: CheckpointSaved | CheckpointAdopted) -> Refusal | None:
    if isinstance(payload, CheckpointAdopted) and (refusal := _adoption_refusal(state, payload)) is not None:
        return refusal
    known = state.checkpoints.get(payload.uri)
    if known is not None and known.trial_id != payload.trial_id:
        reason = f"this location belongs to trial {known.trial_id}; give each trial its own"
        return Refusal(RefusalKind.STATE, "uri", payload.uri, reason)
    usage = state.usage
    others = usage.stored_bytes + usage.claimed_bytes + usage.trashed_bytes
    if known is not None and known.state in AT_ITS_PLACE:
        others -= known.size_bytes
    if others + payload.size_bytes > _MOST_BYTES:
        reason = f"the experiment's checkpoints have {others} bytes already, and may have at most {_MOST_BYTES} in all"
        return Refusal(RefusalKind.NUMBER, "size_bytes", payload.size_bytes, reason)
    return None


def _known_refusal(
    state: ExperimentState, payload: CheckpointPinned | CheckpointUnpinned | CheckpointMissing
) -> Refusal | None:
    known = state.checkpoints.get(payload.uri)
    if known is None or known.trial_id != payload.trial_id:
        reason = f"trial {payload.trial_id} has no checkpoint there; `ckpt-quota experiment show` lists them"
        return Refusal(RefusalKind.STATE, "uri", payload.uri, reason)
    if isinstance(payload, CheckpointPinned) and known.state not in AT_ITS_PLACE:
        reason = f"the checkpoint is {known.state}, it cannot be pinned"
        if known.state == "trashed":
            reason += "; restore it first (`ckpt-quota restore`)"
        return Refusal(RefusalKind.STATE, "uri", payload.uri, reason)
    return None

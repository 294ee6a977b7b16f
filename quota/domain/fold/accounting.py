"""How a change of a trial or a checkpoint moves the sums that are kept along."""

from __future__ import annotations

from quota.domain.experiment import Checkpoint, CheckpointState, ExperimentState, Trial, TrialStatus


def set_trial_status(state: ExperimentState, trial: Trial, status: TrialStatus) -> None:
    """Change what a trial does, and what it counts for."""
    usage = state.usage
    usage.held_checkpoints -= trial.held_checkpoints
    usage.running_trials += (status == "running") - (trial.status == "running")
    trial.status = status
    usage.held_checkpoints += trial.held_checkpoints
    state.touched.trials.add(trial.trial_id)
    state.touched.experiment = True
    note_derived(state, trial)


def count_new_trial(state: ExperimentState, trial: Trial) -> None:
    """Take a trial in that has just started."""
    state.trials[trial.trial_id] = trial
    state.usage.running_trials += 1
    state.usage.held_checkpoints += trial.held_checkpoints
    state.touched.trials.add(trial.trial_id)
    state.touched.experiment = True


def set_checkpoint_state(state: ExperimentState, checkpoint: Checkpoint, new: CheckpointState) -> None:
    """Change where a checkpoint is, and what its trial counts for."""
    _count(state, checkpoint, -1)
    checkpoint.state = new
    _count(state, checkpoint, +1)
    state.touched.checkpoints.add(checkpoint.uri)


def resize(state: ExperimentState, checkpoint: Checkpoint, size_bytes: int) -> None:
    """Change a checkpoint's size."""
    _count(state, checkpoint, -1)
    checkpoint.size_bytes = size_bytes
    _count(state, checkpoint, +1)
    state.touched.checkpoints.add(checkpoint.uri)


def count_new(state: ExperimentState, checkpoint: Checkpoint) -> None:
    """Count a checkpoint that was not known before."""
    _count(state, checkpoint, +1)
    state.touched.checkpoints.add(checkpoint.uri)


def _count(state: ExperimentState, checkpoint: Checkpoint, sign: int) -> None:
    usage, size = state.usage, sign * checkpoint.size_bytes
    state.touched.experiment = True
    match checkpoint.state:
        case "stored":
            usage.stored_checkpoints += sign
            usage.stored_bytes += size
            trial = state.trials[checkpoint.trial_id]
            usage.held_checkpoints -= trial.held_checkpoints
            trial.stored_checkpoints += sign
            usage.held_checkpoints += trial.held_checkpoints
            state.touched.trials.add(trial.trial_id)
            note_derived(state, trial)
        case "claimed":
            usage.claimed_checkpoints += sign
            usage.claimed_bytes += size
        case "trashed" | "purging":
            usage.trashed_checkpoints += sign
            usage.trashed_bytes += size
        case "purged" | "missing":
            pass


def note_derived(state: ExperimentState, trial: Trial) -> None:
    """Keep what follows from a trial's status and its checkpoints: `note_holding`, and its place in its rung."""
    note_holding(state, trial)
    _mark_entry(state, trial)


def note_holding(state: ExperimentState, trial: Trial) -> None:
    """Keep whether a trial has superseded checkpoints, and whether it has ended and left any."""
    if trial.stored_checkpoints > 1 and not trial.has_ended:
        state.trials_with_superseded.add(trial.trial_id)
    else:
        state.trials_with_superseded.discard(trial.trial_id)
    if trial.stored_checkpoints > 0 and trial.has_ended:
        state.ended_with_checkpoints.add(trial.trial_id)
    else:
        state.ended_with_checkpoints.discard(trial.trial_id)


def _mark_entry(state: ExperimentState, trial: Trial) -> None:
    if trial.level is None:
        return
    waits = trial.status == "paused"
    marks = {"waits": waits, "has_checkpoint": waits and trial.stored_checkpoints > 0}
    if state.rungs[trial.level].mark(trial.trial_id, **marks, position=state.position):
        state.touched.rung_entries.add((trial.level, trial.trial_id))

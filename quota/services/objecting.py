"""Whether what was decided may still be done: by the log of its own stream, and for an orphan by everybody's."""

from __future__ import annotations

from collections.abc import Callable

from quota.domain.deployment import DeploymentState
from quota.domain.eligibility import is_needed_again, objection
from quota.domain.events import CancelReason, EvictionDecided
from quota.domain.experiment import Decision, ExperimentState
from quota.eventlog.locations import is_taken
from quota.projections.projector import LockedExperiment
from quota.services.reported import ReportedPlaces


def objection_to(
    locked: LockedExperiment, decided: EvictionDecided, deployment: DeploymentState
) -> CancelReason | None:
    """Say why a claimed checkpoint may not be moved to the trash (any more), or None where it may."""
    # Under another name too, what is to be moved is asked after before the move.
    if decided.reason == "orphan" and is_taken(locked.stream.connection, decided.uri):
        return "reported"
    return objection(
        locked.state, decided.uri, decided.checkpoint_position, decided.reason, pinning(locked.state, deployment)
    )


def pinning(state: ExperimentState, deployment: DeploymentState) -> Callable[[str], bool]:
    """Return what tells of an experiment's places whether they are pinned by what they belong to."""
    return deployment.pinning(state.experiment_id, {} if state.experiment is None else state.experiment.labels)


def is_wanted_back(
    locked: LockedExperiment, decision: Decision, reported: ReportedPlaces, deployment: DeploymentState
) -> bool:
    """Tell whether what a decision has put into the trash belongs at its place: pinned, reported or needed.

    It may be pinned by hand, or by what it belongs to.
    """
    if decision.outcome not in {"trashed", "forbidden"}:
        return False
    checkpoint = locked.state.checkpoints[decision.decided.uri]
    is_own = checkpoint.decision_id == decision.decided.decision_id
    if not is_own:
        return False
    is_needed = decision.decided.reason == "superseded" and is_needed_again(locked.state, checkpoint)
    is_pinned = checkpoint.pinned or pinning(locked.state, deployment)(checkpoint.uri)
    return is_needed or is_pinned or reported.is_reported(locked.stream.connection, decision.decided)

"""Counting what keeps a limit from being held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from typing import Literal

from quota.domain.events import LimitMeasure
from quota.domain.experiment import ExperimentState
from quota.domain.keeping import Rules, best_completed, ended_as, why_kept
from quota.domain.scopes import Scope

Obstacle = Literal["out_of_reach", "out_of_order", "in_use", "linked", "unapproved"]
"""Why a place cannot be evicted from: it lies in no store, or in one that could not be opened or refused one thing
after another; somebody writes to it; it is linked with another checkpoint of its trial; or the sweep applies a saved
plan, and chooses nothing by itself."""

HeldBack = Literal[
    "running",
    "pinned",
    "best",
    "young",
    "retained",
    "reserved",
    "out_of_reach",
    "out_of_order",
    "in_use",
    "linked",
    "unapproved",
    "refused",
    "left",
]
"""Why a checkpoint that counts is not evicted: its trial runs; what `Kept` says; a reserve asks for it; there is an
obstacle; or it is left to the next sweep."""


def held_back(
    state: ExperimentState,
    scope: Scope,
    measure: LimitMeasure,
    rules: Rules,
    obstacle: Callable[[str], Obstacle | None],
    evicted: Container[str],
    reserved: Container[str] = (),
) -> Counter[HeldBack]:
    """Count the checkpoints of an experiment that count under a limit and stay, by why they do.

    Ask only where all candidates are evicted, but for those that reserves keep; what has come up since then is left to
    the next sweep.

    Args:
        state: The experiment.
        scope: What the limit holds for.
        measure: What it counts.
        rules: The rules.
        obstacle: What keeps a checkpoint's URI from being evicted, if anything does.
        evicted: What goes.
        reserved: What reserves keep.
    """
    counts: Counter[HeldBack] = Counter()
    labels, best = state.registered.labels, best_completed(state, rules.parameters.keep_completed)
    for trial in state.trials.values():
        if trial.has_ended and (measure == "checkpoints" or not trial.stored_checkpoints):
            continue
        lying = [state.checkpoints[uri] for uri in state.trial_uris.get(trial.trial_id, [])]
        kept = [one for one in lying if one.state == "stored" and one.uri not in evicted]
        kept = [one for one in kept if scope.contains(state.experiment_id, labels, one.uri)]
        for checkpoint in kept:
            if measure != "checkpoints" and not checkpoint.size_bytes:
                continue
            met = obstacle(checkpoint.uri)
            reason = ended_as(trial) if trial.has_ended else "paused"
            why = why_kept(state, checkpoint, reason, rules, best)
            if why == "pinned" or met is None or met == "unapproved":
                otherwise = met or ("reserved" if checkpoint.uri in reserved else "left")
                counts[why or ("running" if trial.status == "running" else otherwise)] += 1
            else:
                counts[met] += 1
        is_unwritten = trial.status == "running" and not kept and measure == "checkpoints"
        counts["running"] += is_unwritten and scope.contains(state.experiment_id, labels, None)
    return Counter({reason: number for reason, number in sorted(counts.items()) if number})

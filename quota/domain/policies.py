"""In which order checkpoints go: the policies, as pure functions over candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

from quota.domain.events import PolicyParameters
from quota.domain.experiment import OVERALL, Checkpoint, Estimator, Experiment, ExperimentState, may_retry
from quota.domain.resume_probability import resume_probabilities
from quota.domain.rung import Rung, RungEntry

OPEN_ENDED_TIME_RATIO = 1.0
"""For an experiment without an end: it is taken to last as long again as it has lasted."""

_LEAST_SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A checkpoint that may be evicted, with what its policy knows of it.

    Attributes:
        trial_id: Its trial.
        uri: The checkpoint's location.
        saved_position: Position of the event that saved it.
        saved_at: When that was; never later than the database's time.
        size_bytes: Its size.
        reason: `superseded` or `paused`.
        is_running: Whether its trial runs, and may be writing to any of its places.
        level: Level that the trial is paused at; None for a superseded one, as are all that follow but `score`.
        metric: What it is ranked by.
        rank: Its rank, from 1.
        rung_length: Entries of the rung.
        promotion_quantile: The rung's.
        estimator: Which estimator was used; None for policies that use none, as are all that follow.
        estimator_ones: Its ones.
        estimator_total: Its data.
        p_better: Its posterior mean.
        time_ratio: Time remaining / time elapsed.
        resume_probability: Probability that the trial is resumed.
        score: Expected resource lost; 0 for a superseded one.
    """

    trial_id: str
    uri: str
    saved_position: int
    saved_at: datetime
    size_bytes: int
    reason: Literal["paused", "superseded"]
    is_running: bool = False
    level: int | None = None
    metric: float | None = None
    rank: int | None = None
    rung_length: int | None = None
    promotion_quantile: float | None = None
    estimator: Literal["rung", "overall"] | None = None
    estimator_ones: int | None = None
    estimator_total: int | None = None
    p_better: float | None = None
    time_ratio: float | None = None
    resume_probability: float | None = None
    score: float | None = None


def time_ratio(experiment: Experiment, now: datetime) -> float:
    """Return time remaining / time elapsed, each floored at 1 ms; 1 for an experiment without an end."""
    if experiment.max_wallclock_seconds is None:
        return OPEN_ENDED_TIME_RATIO
    elapsed = (now - experiment.started_at).total_seconds()
    remaining = experiment.max_wallclock_seconds - elapsed
    return max(remaining, _LEAST_SECONDS) / max(elapsed, _LEAST_SECONDS)


def candidates(state: ExperimentState, parameters: PolicyParameters, now: datetime) -> list[Candidate]:
    """Return what may be evicted, scored, in the order in which it is scored.

    Superseded checkpoints come first (losing them costs nothing), then those of paused trials, highest rung first
    and then by rank. Pinned ones, the newest of a running trial, and those that the store refused lately are none.
    """
    found = [
        _of(checkpoint, "superseded", score=0.0, is_running=state.trials[trial_id].status == "running")
        for trial_id in sorted(state.trials_with_superseded)
        for checkpoint in state.superseded(trial_id)
        if _may_be_taken(checkpoint, now)
    ]
    ratio = time_ratio(state.registered, now)
    for level in reversed(state.rungs):
        paused = [
            (rank, entry, checkpoint)
            for rank, entry in state.rungs[level].candidates()
            if (checkpoint := state.newest_stored(entry.trial_id)) and _may_be_taken(checkpoint, now)
        ]
        found.extend(_of_rung(state, state.rungs[level], paused, parameters, ratio))
    return found


def _may_be_taken(checkpoint: Checkpoint, now: datetime) -> bool:
    return not checkpoint.pinned and may_retry(checkpoint.failures, checkpoint.failed_at, now)


def _of_rung(
    state: ExperimentState,
    rung: Rung,
    paused: Sequence[tuple[int, RungEntry, Checkpoint]],
    parameters: PolicyParameters,
    ratio: float,
) -> list[Candidate]:
    if not paused:
        return []
    if parameters.policy != "syne-tune":
        return [_ranked(rung, rank, entry, checkpoint) for rank, entry, checkpoint in paused]
    return _scored(state, rung, paused, parameters, ratio)


def _of(checkpoint: Checkpoint, reason: Literal["paused", "superseded"], **known: Any) -> Candidate:  # noqa: ANN401
    """Copy what a plan needs to know: the checkpoint's record goes on changing."""
    return Candidate(
        trial_id=checkpoint.trial_id,
        uri=checkpoint.uri,
        saved_position=checkpoint.saved_position,
        saved_at=checkpoint.saved_at,
        size_bytes=checkpoint.size_bytes,
        reason=reason,
        **known,
    )


def _ranked(rung: Rung, rank: int, entry: RungEntry, checkpoint: Checkpoint) -> Candidate:
    return _of(
        checkpoint,
        "paused",
        level=rung.level,
        metric=entry.metric,
        rank=rank,
        rung_length=len(rung),
        promotion_quantile=rung.promotion_quantile,
    )


def _scored(
    state: ExperimentState,
    rung: Rung,
    paused: Sequence[tuple[int, RungEntry, Checkpoint]],
    parameters: PolicyParameters,
    ratio: float,
) -> list[Candidate]:
    which, estimator = _estimator_for(state, rung, parameters)
    p_better = estimator.posterior_mean(parameters.prior_mean, parameters.prior_size)
    probabilities = resume_probabilities(
        np.array([rank for rank, _, _ in paused], dtype=np.int64),
        len(rung),
        rung.promotion_quantile,
        p_better,
        ratio,
        parameters.approx_steps,
    )
    if state.registered.finished_at is not None:
        probabilities = np.zeros_like(probabilities)
    return [
        _of(
            checkpoint,
            "paused",
            level=rung.level,
            metric=entry.metric,
            rank=rank,
            rung_length=len(rung),
            promotion_quantile=rung.promotion_quantile,
            estimator=which,
            estimator_ones=estimator.ones,
            estimator_total=estimator.total,
            p_better=p_better,
            time_ratio=ratio,
            resume_probability=probability,
            score=probability * rung.level,
        )
        for (rank, entry, checkpoint), probability in zip(paused, probabilities.tolist(), strict=True)
    ]


def _estimator_for(
    state: ExperimentState, rung: Rung, parameters: PolicyParameters
) -> tuple[Literal["rung", "overall"], Estimator]:
    own = state.estimators[rung.level]
    if own.total >= parameters.min_data_at_rung:
        return "rung", own
    return "overall", state.estimators[OVERALL]


def in_order_of_eviction(
    scored: Sequence[Candidate], parameters: PolicyParameters, experiment_id: str
) -> list[Candidate]:
    """Sort candidates so that the one to be missed least comes first.

    The sort is stable: equals stay in the order of `candidates`.
    """

    def key(candidate: Candidate) -> tuple[float, ...]:
        if candidate.reason == "superseded":
            return (0.0,)
        match parameters.policy:
            case "syne-tune":
                return (1.0, candidate.score or 0.0)
            case "by_level":
                return (1.0, candidate.level or 0, -(candidate.rank or 0))
            case "random":
                return (1.0, _draw(parameters.seed, experiment_id, candidate))

    return sorted(scored, key=key)


def _draw(seed: int | None, experiment_id: str, candidate: Candidate) -> int:
    """Return a number that looks random and can be drawn again years later from what is logged."""
    text = f"{seed}\n{experiment_id}\n{candidate.trial_id}\n{candidate.saved_position}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")

"""What may be evicted, and in which order: the policies, as pure functions over candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

from quota.domain.climbs import climbs
from quota.domain.events import EvictionReason, PolicyParameters
from quota.domain.expected_cost import place_values
from quota.domain.experiment import OVERALL, Checkpoint, Estimator, Experiment, ExperimentState, Trial
from quota.domain.first_passage import passages
from quota.domain.keeping import Rules, best_completed, ended_as, last_rank_value, why_kept
from quota.domain.later_arrivals import ANYWHERE, LaterArrivals, later_arrivals, urn_at
from quota.domain.next_arrivals import NOTHING_KNOWN, NextArrivals, next_arrivals
from quota.domain.resume_probability import resume_probabilities
from quota.domain.rung import Rung
from quota.domain.rung_entry import RungEntry

MOST_TIME_RATIO = 1e9
"""More changes no probability, and numbers of arrivals would leave the range of floating-point numbers."""

OPEN_ENDED_TIME_RATIO = 1.0
"""For an experiment without an end: it is taken to last as long again as it has lasted."""

VERSIONS: Mapping[str, int] = {"syne-tune": 1, "expected-cost": 1, "by_level": 1, "random": 1}
"""Which version of each policy this is. Who changes what a policy makes of the same events raises its number, so that
whoever recomputes an old decision is told that its policy was another one."""

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
        reason: `superseded` or `paused`; `stopped`, `failed` or `completed`, if its trial has ended so.
        is_running: Whether its trial runs, and may be writing to any of its places.
        level: Level that the trial is paused at; None where it is not, as are all that follow but `score` and
            `cost_seconds`.
        metric: What it is ranked by.
        rank: Its rank, from 1.
        rung_length: Entries of the rung.
        promotion_quantile: The rung's.
        estimator: Which estimator was used; None for policies that use none, as are all that follow.
        estimator_ones: Its ones.
        estimator_total: Its data.
        rank_of_equals: Rank of the best entry with the same metric; None for policies that do not ask, as is the next.
        arrivals_better: The chance of each trial that is on its way to the rung to rank better there.
        p_better: Chance that an arrival ranks better: the estimator's posterior mean, or what is expected of those that
            come after the ones on their way.
        time_ratio: Time remaining / time elapsed.
        resume_probability: Probability that the trial is resumed.
        kept_resource: Resource that the trial would not have to consume again, as an older checkpoint of it is pinned.
        score: Expected resource lost, by `expected-cost` for each arrival that its place is kept; 0 for one that no
            trial would load. `syne-tune` takes the whole level for lost, as its original does.
        seconds_per_resource: Seconds that a unit of resource takes, by which a score becomes a cost.
        cost_seconds: Expected seconds of lost work; None for policies that score nothing.
    """

    trial_id: str
    uri: str
    saved_position: int
    saved_at: datetime
    size_bytes: int
    reason: EvictionReason
    is_running: bool = False
    level: int | None = None
    metric: float | None = None
    rank: int | None = None
    rung_length: int | None = None
    promotion_quantile: float | None = None
    estimator: Literal["rung", "overall"] | None = None
    estimator_ones: int | None = None
    estimator_total: int | None = None
    rank_of_equals: int | None = None
    arrivals_better: tuple[float, ...] | None = None
    p_better: float | None = None
    time_ratio: float | None = None
    resume_probability: float | None = None
    kept_resource: int | None = None
    score: float | None = None
    seconds_per_resource: float | None = None
    cost_seconds: float | None = None

    @property
    def counts(self) -> bool:
        """Whether it counts under a limit on checkpoints: those of trials that have ended do not."""
        return self.reason in {"paused", "superseded"}

    @property
    def score_seconds(self) -> float | None:
        """The score in seconds: by this candidates of different experiments compare; None where nothing is scored."""
        return None if self.score is None else self.score * (self.seconds_per_resource or 0.0)

    @property
    def is_needed(self) -> bool:
        """Whether a trial might load it."""
        return self.reason == "paused"


def time_ratio(experiment: Experiment, now: datetime) -> float:
    """Return time remaining / time elapsed, each floored at 1 ms, 1e9 at most; 1 for an experiment without an end."""
    if experiment.max_wallclock_seconds is None:
        return OPEN_ENDED_TIME_RATIO
    elapsed = (now - experiment.started_at).total_seconds()
    remaining = experiment.max_wallclock_seconds - elapsed
    return min(max(remaining, _LEAST_SECONDS) / max(elapsed, _LEAST_SECONDS), MOST_TIME_RATIO)


def candidates(state: ExperimentState, rules: Rules) -> list[Candidate]:
    """Return what may be evicted, scored, in the order in which it is scored.

    Those that no trial would load come first, since losing them costs nothing: superseded ones, then those of trials
    that were stopped or have failed, then those of completed ones, the worst first. Then come those of paused trials,
    highest rung first and then by rank. The newest of a running trial is none, nor is what `why_kept` has a reason for.
    """
    best = best_completed(state, rules.parameters.keep_completed)
    found = [
        _of(checkpoint, reason, is_running=is_running, score=0.0, cost_seconds=0.0)
        for checkpoint, reason, is_running in unneeded(state)
        if why_kept(state, checkpoint, reason, rules, best) is None
    ]
    ratio = time_ratio(state.registered, rules.now)
    coming = _coming(state, rules, ratio) if rules.parameters.policy == "expected-cost" else {}
    for level in reversed(state.rungs):
        paused = [
            (rank, entry, checkpoint)
            for rank, entry in state.rungs[level].candidates()
            if (checkpoint := state.newest_stored(entry.trial_id))
            and why_kept(state, checkpoint, "paused", rules, best) is None
        ]
        if not paused:
            continue
        match rules.parameters.policy:
            case "syne-tune":
                found.extend(_scored(state, state.rungs[level], paused, rules, ratio))
            case "expected-cost":
                found.extend(_valued(state, state.rungs[level], paused, coming[level], rules, ratio))
            case "by_level" | "random":
                found.extend(_ranked(state.rungs[level], *one) for one in paused)
    return found


def unneeded(state: ExperimentState) -> Iterator[tuple[Checkpoint, EvictionReason, bool]]:
    """Yield what no trial would load, with the reason that it could go for, and whether its trial runs."""
    for trial_id in sorted(state.trials_with_superseded):
        for checkpoint in state.superseded(trial_id):
            yield checkpoint, "superseded", state.trials[trial_id].status == "running"

    def in_order_of_loss(trial: Trial) -> tuple[bool, float, str]:
        is_model = trial.status == "completed"
        return is_model, -last_rank_value(state, trial) if is_model else 0.0, trial.trial_id

    ended = (state.trials[trial_id] for trial_id in state.ended_with_checkpoints)
    for trial in sorted(ended, key=in_order_of_loss):
        for uri in state.trial_uris[trial.trial_id]:
            if state.checkpoints[uri].state == "stored":
                yield state.checkpoints[uri], ended_as(trial), False


def _of(checkpoint: Checkpoint, reason: EvictionReason, **known: Any) -> Candidate:  # noqa: ANN401
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


def _ranked(rung: Rung, rank: int, entry: RungEntry, checkpoint: Checkpoint, **known: Any) -> Candidate:  # noqa: ANN401
    return _of(
        checkpoint,
        "paused",
        level=rung.level,
        metric=entry.metric,
        rank=rank,
        rung_length=len(rung),
        promotion_quantile=rung.promotion_quantile,
        **known,
    )


def _scored(
    state: ExperimentState,
    rung: Rung,
    paused: Sequence[tuple[int, RungEntry, Checkpoint]],
    rules: Rules,
    ratio: float,
) -> list[Candidate]:
    parameters, pace = rules.parameters, rules.seconds_per_resource
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
    kept = [_kept_resource(state, checkpoint) for _, _, checkpoint in paused]
    losses = _lost_resources(rung, paused, kept)
    return [
        _ranked(
            rung,
            *one,
            estimator=which,
            estimator_ones=estimator.ones,
            estimator_total=estimator.total,
            p_better=p_better,
            time_ratio=ratio,
            resume_probability=probability,
            kept_resource=resource,
            score=probability * rung.level,
            seconds_per_resource=pace,
            cost_seconds=probability * lost * pace,
        )
        for one, probability, resource, lost in zip(paused, probabilities.tolist(), kept, losses, strict=True)
    ]


def _coming(state: ExperimentState, rules: Rules, ratio: float) -> Mapping[int, tuple[NextArrivals, LaterArrivals]]:
    """Return what is to arrive at each rung: what is on its way, and what comes later."""
    steps, ways = rules.parameters.approx_steps, climbs(state.rungs)
    known = next_arrivals(state, ways, steps)
    later = later_arrivals(state.rungs, ways, known, ratio, steps)
    return {level: (known.get(level, NOTHING_KNOWN), later.get(level, ANYWHERE)) for level in state.rungs}


def _valued(
    state: ExperimentState,
    rung: Rung,
    paused: Sequence[tuple[int, RungEntry, Checkpoint]],
    coming: tuple[NextArrivals, LaterArrivals],
    rules: Rules,
    ratio: float,
) -> list[Candidate]:
    known, later = coming
    ranks = rung.ranking().ranks_of_equals(entry.trial_id for _, entry, _ in paused)
    relative_ranks = ranks / (len(rung) + 1.0)
    chances, shares = known.better_than(relative_ranks), later.better_than(relative_ranks)
    found = passages(ranks, chances, shares, urn_at(rung, ratio, rules.parameters.approx_steps))
    goes_on = 1.0 if state.registered.finished_at is None else 0.0
    kept = [_kept_resource(state, checkpoint) for _, _, checkpoint in paused]
    losses = _lost_resources(rung, paused, kept)
    columns = (
        ranks.tolist(),
        chances.T.tolist(),
        shares.tolist(),
        (found.probability * goes_on).tolist(),
        kept,
        losses,
        (place_values(found, np.array(losses, dtype=np.int64)) * goes_on).tolist(),
    )
    return [
        _ranked(
            rung,
            *one,
            rank_of_equals=equals,
            arrivals_better=tuple(better),
            p_better=p_better,
            time_ratio=ratio,
            resume_probability=probability,
            kept_resource=resource,
            score=score,
            seconds_per_resource=rules.seconds_per_resource,
            cost_seconds=probability * lost * rules.seconds_per_resource,
        )
        for one, equals, better, p_better, probability, resource, lost, score in zip(paused, *columns, strict=True)
    ]


def _lost_resources(rung: Rung, paused: Sequence[tuple[int, RungEntry, Checkpoint]], kept: Sequence[int]) -> list[int]:
    """Return the resource that is to be consumed again without each checkpoint: what it has, up to the rung's level."""
    return [
        max(0, min(rung.level, checkpoint.resource) - resource)
        for (_, _, checkpoint), resource in zip(paused, kept, strict=True)
    ]


def _kept_resource(state: ExperimentState, checkpoint: Checkpoint) -> int:
    """Return the resource of the latest of its trial's older checkpoints that stay in any case: those pinned by hand.

    All others are superseded, and go before it does.
    """
    uris = state.trial_uris[checkpoint.trial_id]
    older = (state.checkpoints[uri] for uri in reversed(uris[: uris.index(checkpoint.uri)]))
    kept = next((one.resource for one in older if one.pinned and one.state == "stored"), 0)
    return min(kept, checkpoint.resource)


def _estimator_for(
    state: ExperimentState, rung: Rung, parameters: PolicyParameters
) -> tuple[Literal["rung", "overall"], Estimator]:
    own = state.estimators[rung.level]
    if own.total >= parameters.min_data_at_rung:
        return "rung", own
    return "overall", state.estimators[OVERALL]


def order_key(candidate: Candidate, parameters: PolicyParameters, experiment_id: str) -> tuple[float, ...]:
    """Return what candidates, of whatever experiments, are sorted by: the one to be missed least comes first.

    Those that no trial would load come before all others. Scores are compared in seconds, and within one experiment
    that is the order of the scores. By `expected-cost` the worse one of equals goes first, since where there is no time
    for either, time may have been reckoned too short. All other equals stay in the order of `candidates`.
    """
    if not candidate.is_needed:
        return (0.0,)
    match parameters.policy:
        case "syne-tune":
            return (1.0, candidate.score_seconds or 0.0, candidate.score or 0.0)
        case "expected-cost":
            return (1.0, candidate.score_seconds or 0.0, candidate.score or 0.0, -(candidate.rank or 0))
        case "by_level":
            return (1.0, candidate.level or 0, -(candidate.rank or 0))
        case "random":
            return (1.0, _draw(parameters.seed, experiment_id, candidate))


def _draw(seed: int | None, experiment_id: str, candidate: Candidate) -> int:
    """Return a number that looks random and can be drawn again years later from what is logged."""
    text = f"{seed}\n{experiment_id}\n{candidate.trial_id}\n{candidate.saved_position}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")

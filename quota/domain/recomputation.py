"""Recomputing what decisions were based on, as an auditor would years later: from the events before them alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import structs

from quota.domain.events import EvictionDecided, PolicyParameters, RecordedEvent
from quota.domain.experiment import ExperimentState
from quota.domain.keeping import Rules
from quota.domain.manifest import Manifest
from quota.domain.policies import VERSIONS, Candidate, candidates, order_key
from quota.domain.scopes import Scope

INPUTS = (
    "trial_id",
    "reason",
    "level",
    "metric",
    "rank",
    "rung_length",
    "promotion_quantile",
    "estimator",
    "estimator_ones",
    "estimator_total",
    "rank_of_equals",
    "arrivals_better",
    "p_better",
    "time_ratio",
    "resume_probability",
    "kept_resource",
    "score",
    "cost_seconds",
)
"""What a decision and a candidate have in common, and what follows from the experiment's events alone."""

_ROUNDING = 1e-9
_NO_SECONDS = 1.0
"""What stands for the seconds of a unit of resource where a decision has none: its cost is not compared then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDecision:
    """A decision as the log has it.

    Attributes:
        decided: What was decided, without the manifest, which may be long.
        position: Position of its event.
        planned_at: The time that its inputs hold for; the event's own where an older log does not say.
    """

    decided: EvictionDecided
    position: int
    planned_at: datetime

    @classmethod
    def of(cls, event: RecordedEvent) -> LoggedDecision | None:
        """Take it from an event; None where that is none, or one that no policy has chosen."""
        decided = event.payload
        if not isinstance(decided, EvictionDecided) or decided.parameters is None:
            return None
        return cls(
            decided=structs.replace(decided, manifest=Manifest()),
            position=event.position,
            planned_at=decided.planned_at or event.occurred_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """An input that the events do not add up to.

    Attributes:
        name: Its field.
        logged: What the decision says.
        recomputed: What the events say.
    """

    name: str
    logged: object
    recomputed: object

    @property
    def is_rounding(self) -> bool:
        """Whether the two differ as far as another processor or another NumPy may round, and no further."""
        logged, recomputed = _numbers(self.logged), _numbers(self.recomputed)
        return len(logged) == len(recomputed) > 0 and all(
            math.isclose(one, other, rel_tol=_ROUNDING) for one, other in zip(logged, recomputed, strict=True)
        )


def _numbers(value: object) -> tuple[float, ...]:
    """Return the fractions that a value holds; none of what is no fraction, or not of those alone."""
    values: tuple[object, ...] = value if isinstance(value, tuple) else (value,)
    numbers = tuple(one for one in values if isinstance(one, float))
    return numbers if len(numbers) == len(values) else ()


def by_state(decisions: Iterable[LoggedDecision]) -> Mapping[int, Sequence[LoggedDecision]]:
    """Return decisions by the position that they rest on, rising: what was planned first may be claimed last."""
    found: dict[int, list[LoggedDecision]] = {}
    for one in sorted(decisions, key=lambda one: (one.decided.state_position, one.position)):
        found.setdefault(one.decided.state_position, []).append(one)
    return found


def recompute(
    state: ExperimentState, decisions: Sequence[LoggedDecision]
) -> Iterator[tuple[LoggedDecision, tuple[Mismatch, ...]]]:
    """Compare the inputs of decisions with what the events add up to, to the last bit.

    Args:
        state: The experiment up to the position that they rest on.
        decisions: Those that rest on it.

    Yields:
        Each decision, with what of it does not recompute.
    """
    known: dict[object, Mapping[str, Candidate]] = {}
    for one in decisions:
        if state.experiment is None or one.decided.state_position >= one.position:
            # Nothing can be planned before there is an experiment, nor by what comes later.
            yield one, (Mismatch(name="state_position", logged=one.decided.state_position, recomputed=None),)
            continue
        key = one.decided.parameters, one.planned_at, one.decided.seconds_per_resource
        if key not in known:
            known[key] = {candidate.uri: candidate for candidate in scored(state, one)}
        yield one, tuple(_mismatches(state, one, known[key]))


def scored(state: ExperimentState, one: LoggedDecision) -> list[Candidate]:
    """Return what could be evicted for all that the experiment's own events say, in order of eviction."""
    parameters = _parameters(one.decided)
    rules = Rules(
        parameters=parameters,
        now=one.planned_at,
        seconds_per_resource=one.decided.seconds_per_resource or _NO_SECONDS,
    )
    found = candidates(state, rules)
    if one.decided.limit_measure in {None, "checkpoints"}:
        found = [candidate for candidate in found if candidate.counts]
    return sorted(found, key=lambda candidate: order_key(candidate, parameters, state.experiment_id))


def _parameters(decided: EvictionDecided) -> PolicyParameters:
    if decided.parameters is None:
        message = f"decision {decided.decision_id}: no policy has chosen it"
        raise ValueError(message)
    return decided.parameters


def _mismatches(state: ExperimentState, one: LoggedDecision, found: Mapping[str, Candidate]) -> Iterator[Mismatch]:
    decided = one.decided
    version = VERSIONS[_parameters(decided).policy]
    if decided.policy_version not in {None, version}:
        # What another version would say is not for this one to tell.
        yield Mismatch(name="policy_version", logged=decided.policy_version, recomputed=version)
        return
    usage = _usage(state, decided)
    if usage is not None and usage != decided.usage:
        yield Mismatch(name="usage", logged=decided.usage, recomputed=usage)
    candidate = found.get(decided.uri)
    if candidate is None or candidate.saved_position != decided.checkpoint_position:
        position = None if candidate is None else candidate.saved_position
        yield Mismatch(name="checkpoint_position", logged=decided.checkpoint_position, recomputed=position)
        return
    for name in INPUTS:
        logged, recomputed = getattr(decided, name), getattr(candidate, name)
        if exact(logged) != exact(recomputed):
            yield Mismatch(name=name, logged=logged, recomputed=recomputed)
    seconds = state.pace.median_seconds
    if decided.seconds_per_resource is not None and seconds not in {None, decided.seconds_per_resource}:
        yield Mismatch(name="seconds_per_resource", logged=decided.seconds_per_resource, recomputed=seconds)


def _usage(state: ExperimentState, decided: EvictionDecided) -> int | None:
    """Return what counted under the limit, where the experiment's own events say so."""
    if decided.limit_scope is None or Scope.parse(decided.limit_scope).is_shared:
        return None
    usage = state.usage
    return usage.held_checkpoints if decided.limit_measure in {None, "checkpoints"} else usage.used_bytes


def exact(value: object) -> object:
    """Write a number so that the last bit shows, and NaN equals itself."""
    if isinstance(value, tuple):
        return tuple(map(exact, value))
    return value.hex() if isinstance(value, float) else value

"""What has become of a saved plan since: what it would be by now, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from quota.domain.eligibility import objection
from quota.domain.events import CancelReason, EvictionReason
from quota.domain.experiment import ExperimentState
from quota.domain.saved_plan import SavedEviction, SavedLimit, evictions_of, purges_of


def differences(
    saved: Sequence[SavedLimit], now: Sequence[SavedLimit], why_not: Callable[[str, SavedEviction], str]
) -> Iterator[str]:
    """Yield what is no longer as it was: limits, then evictions, then purges.

    What evictions cost is not compared: that changes with each report, and says nothing where the same ones go.

    Args:
        saved: What was saved.
        now: What is planned by now.
        why_not: Says why an eviction from an experiment is not called for any more.
    """
    yield from _changed_limits(saved, now)
    before, after = evictions_of(saved), evictions_of(now)
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if new is None and old is not None:
            yield f"{_named(key, old)} would not go any more: {why_not(key[0], old[1])}"
        elif old is None and new is not None:
            yield f"{_named(key, new)} would go, too, {_as(new)}"
        elif old is not None and new is not None and (_named(key, old), _as(old)) != (_named(key, new), _as(new)):
            yield f"{_named(key, new)} would go {_as(new)}, and not {_as(old)}"
    purged, to_purge = purges_of(saved), purges_of(now)
    for experiment_id, decision_id in sorted(purged - to_purge):
        yield f"decision {decision_id} of experiment {experiment_id} would not be purged any more"
    for experiment_id, decision_id in sorted(to_purge - purged):
        yield f"decision {decision_id} of experiment {experiment_id} would be purged, too"


def _changed_limits(saved: Sequence[SavedLimit], now: Sequence[SavedLimit]) -> Iterator[str]:
    before, after = _numbers(saved), _numbers(now)
    for scope, measure in sorted(before.keys() | after.keys()):
        old, new = before.get((scope, measure)), after.get((scope, measure))
        if new is None:
            yield f"limit on {scope}, {measure}: there is none any more, or nobody can tell what is free"
        elif old is None:
            yield f"limit on {scope}, {measure}: it is new"
        elif old != new:
            yield f"limit on {scope}, {measure}: it is {_text(new)} by now, and was {_text(old)}"


def _numbers(limits: Iterable[SavedLimit]) -> Mapping[tuple[str, str], tuple[int, int]]:
    return {(one.scope, one.measure): (one.high, one.low) for one in limits}


def _text(numbers: tuple[int, int]) -> str:
    high, low = numbers
    return f"{high}" if high == low else f"{high} (low {low})"


def _named(key: tuple[str, str, int], eviction: tuple[SavedLimit, SavedEviction]) -> str:
    return f"checkpoint {key[1]} of trial {eviction[1].trial_id} of experiment {key[0]}"


def _as(eviction: tuple[SavedLimit, SavedEviction]) -> str:
    limit, one = eviction
    return f"as {one.reason} ({one.size_bytes} bytes) for the limit on {limit.scope}, {limit.measure}"


_WHY: dict[CancelReason, str] = {
    "resumed": "its trial was resumed",
    "ended": "its trial has ended",
    "needed": "what had superseded it is not there any more",
    "pinned": "it is pinned",
}


def why_not_any_more(
    state: ExperimentState,
    uri: str,
    saved_position: int,
    reason: EvictionReason,
    is_pinned: Callable[[str], bool],
) -> str | None:
    """Say what has become of a checkpoint that was to be evicted, or None where it could go as it was planned.

    Args:
        state: Its experiment, up to its last event.
        uri: Its place.
        saved_position: Position of the event that saved it.
        reason: What it was to go for.
        is_pinned: Tells whether a place is pinned by what it belongs to.
    """
    checkpoint = state.checkpoints.get(uri)
    if checkpoint is None:
        return "there is none"
    if checkpoint.saved_position != saved_position:
        return "its trial has saved another one there"
    if checkpoint.state != "stored":
        return f"it is {checkpoint.state} by now"
    cause = objection(state, uri, saved_position, reason, is_pinned)
    if cause is not None:
        return _WHY.get(cause, f"it is {cause}")
    newest = state.newest_stored(checkpoint.trial_id)
    if reason == "paused" and newest is not None and newest.uri != uri:
        return "its trial has saved a newer one"
    return None

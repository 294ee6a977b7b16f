"""What must hold at any time, and once a sweep has ended, however many processes were killed before it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from crash.scenario import EXPERIMENT, KEEP, RECONCILE, Nobody, look
from quota.bootstrap import open_store
from quota.domain.events import (
    CheckpointAdopted,
    CheckpointPurged,
    CheckpointSaved,
    CheckpointTrashed,
    EvictionDecided,
    PurgeDecided,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialStopped,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM, ORPHANS_STREAM
from quota.errors import StateRefused
from recomputing import not_recomputed, whole_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crash.media import Content, Medium
    from crash.notes import Notes, Promise
    from quota.bootstrap import Services
    from quota.domain.events import RecordedEvent
    from quota.domain.experiment import Checkpoint

_ENDS_PROMISE = (TrialPaused, TrialStopped, TrialCompleted, TrialFailed)
_GOES = (CheckpointTrashed, PurgeDecided, CheckpointPurged)


def broken(services: Services, medium: Medium, notes: Notes) -> Iterator[str]:
    """Yield what does not hold; most of it is looked at after one sweep.

    Args:
        services: Over the database that outlived the processes.
        medium: Where the trials write.
        notes: What the processes have left.
    """
    yield from Lying(services, medium, notes).gone_without_intent()
    services.sweeper.sweep(services.queries.experiment_ids(), KEEP)
    yield from notes.violations
    yield from _log(services)
    stream = whole_stream(services, EXPERIMENT)
    yield from not_recomputed(stream)
    yield from _promises(services, medium, notes.promises, stream)
    yield from Lying(services, medium, notes).differences()
    for name in medium.touched_canaries():
        yield f"{name} was touched"


def _log(services: Services) -> Iterator[str]:
    for head in services.auditor.heads():
        fault = services.auditor.verify(head, lambda _: None)
        if fault is not None:
            yield f"the chain is broken: {fault}"
    for stream in (*services.queries.experiment_ids(), DEPLOYMENT_STREAM):
        for difference in services.rebuilder.verify(stream, lambda _: None):
            yield f"a projection is not the fold of the log: {difference}"


def _promises(
    services: Services, medium: Medium, promises: Sequence[Promise], stream: Sequence[RecordedEvent]
) -> Iterator[str]:
    orphans = whole_stream(services, ORPHANS_STREAM)
    for promise in promises:
        told = f"trial {promise.trial_id} was promised {promise.uri} by event {promise.position}"
        end = _end(promise, stream)
        for event in [*_gone(promise, stream, end), *_taken_for_orphan(promise, orphans, stream, end)]:
            yield f"{told}, and event {event.position} of {event.experiment_id} is {event.payload}"
        if promise.is_over:
            continue
        found = medium.read(promise.uri)
        if found is None or found["number"] != promise.number:
            yield f"{told}, which was {promise.number}, and finds {found}"
        expected = _latest(promise, medium, stream)
        try:
            again = services.recorder.promised_checkpoint(EXPERIMENT, promise.trial_id)
        except StateRefused as refused:
            yield f"{told}, and asked again: {refused}"
        else:
            if again is None or again.uri != expected:
                yield f"{told}, and asked again is told {again} instead of {expected}"


def _latest(promise: Promise, medium: Medium, stream: Sequence[RecordedEvent]) -> str:
    """Return what a running trial may load: what it reported last since its resume, or else what it was promised."""
    since = [event.payload for event in stream[promise.position :] if isinstance(event.payload, CheckpointSaved)]
    own = [saved.uri for saved in since if saved.trial_id == promise.trial_id and medium.read(saved.uri) is not None]
    return own[-1] if own else promise.uri


def _end(promise: Promise, stream: Sequence[RecordedEvent]) -> float:
    """Return the position of what ends a promise by the log."""
    ends = (
        event.position
        for event in stream[promise.position :]
        if isinstance(event.payload, _ENDS_PROMISE) and event.payload.trial_id == promise.trial_id
    )
    return next(ends, inf)


def _gone(promise: Promise, stream: Sequence[RecordedEvent], end: float) -> Iterator[RecordedEvent]:
    """Find what was done to a promised checkpoint while its trial ran.

    An earlier one, that the trial wrote to the same place, may lie in the trash and be purged meanwhile.
    """
    saved = max(
        event.position
        for event in stream[: promise.position]
        if isinstance(event.payload, CheckpointSaved | CheckpointAdopted) and event.payload.uri == promise.uri
    )
    own: set[str] = set()
    for event in stream:
        payload, is_since = event.payload, promise.position < event.position < end
        if isinstance(payload, EvictionDecided) and payload.uri == promise.uri:
            if payload.checkpoint_position == saved:
                own.add(payload.decision_id)
            if is_since:
                yield event
        elif isinstance(payload, _GOES) and payload.decision_id in own and is_since:
            yield event


def _taken_for_orphan(
    promise: Promise, orphans: Sequence[RecordedEvent], stream: Sequence[RecordedEvent], end: float
) -> Iterator[RecordedEvent]:
    """Find where a promised checkpoint was taken for an orphan; positions of two streams do not compare, times do."""
    since = stream[promise.position - 1].recorded_at
    for event in orphans:
        if isinstance(event.payload, EvictionDecided) and event.payload.uri == promise.uri:
            is_before_end = end == inf or event.recorded_at < stream[int(end) - 1].recorded_at
            if since < event.recorded_at and is_before_end:
                yield event


class Lying:
    """What lies at places and in the trash, beside what the log says of it.

    Args:
        services: Over the log.
        medium: Where it lies.
        notes: What is known to be recorded, and what was lost by hand, of which the log need not know yet.
    """

    def __init__(self, services: Services, medium: Medium, notes: Notes) -> None:
        self._services = services
        self._medium = medium
        self._acknowledged, self._lost = notes.acknowledged, notes.lost
        self._sizes = medium.sizes()
        self._state, self._orphans = look(services), look(services, ORPHANS_STREAM)
        self._decisions = self._state.decisions | self._orphans.decisions
        store = open_store(medium.root_uri)
        # A store may keep claims for a while that were undone, of which it holds nothing.
        self._claims = {claim for claim in store.claims() if claim in self._decisions or store.trashed(claim)}

    def differences(self) -> Iterator[str]:
        """Yield what is not as the log says."""
        yield from self._checkpoints()
        yield from self._trash()
        yield from self._usage()
        yield from self._missing()

    def gone_without_intent(self) -> Iterator[str]:
        """Yield what is gone, though the log does not say that it is to be deleted; before a sweep settles anything."""
        taken = [one for one in self._orphans.checkpoints.values() if one.state != "stored"]
        # What a trial has reported since it was taken for an orphan is given back by the next sweep.
        waiting = {one.uri for one in taken if one.decision_id in self._claims}
        # What came back from there is its trial's to keep or to lose.
        for checkpoint in (*self._state.checkpoints.values(), *taken):
            is_somewhere = checkpoint.uri in self._sizes or checkpoint.decision_id in self._claims
            is_somewhere = is_somewhere or checkpoint.uri in waiting
            may_be_gone = checkpoint.state in {"purging", "purged", "missing"} or checkpoint.uri in self._lost
            if not is_somewhere and not may_be_gone:
                yield f"{checkpoint.uri} is {checkpoint.state} by the log, and lies nowhere"

    def _found(self, uri: str) -> Content | None:
        return self._medium.read(uri) if uri in self._sizes else None

    def _checkpoints(self) -> Iterator[str]:
        for uri, checkpoint in self._state.checkpoints.items():
            found = self._found(uri)
            if checkpoint.state == "stored":
                is_other = found is not None and found["trial"] != checkpoint.trial_id
                if is_other or (found is None and uri not in self._lost):
                    yield f"{uri} is stored by the log, and the disk has {found}"
            elif checkpoint.state != "missing" and self._is_acknowledged(found) and not self._is_half_back(checkpoint):
                yield f"{uri} is {checkpoint.state} by the log, and the disk has {found}"
            if checkpoint.pinned and checkpoint.state not in {"stored", "missing"} and found is None:
                yield f"{uri} is pinned, and is {checkpoint.state}"

    def _is_acknowledged(self, found: Content | None) -> bool:
        return found is not None and found["number"] in self._acknowledged

    def _is_half_back(self, checkpoint: Checkpoint) -> bool:
        """Tell whether a restore from a bucket was cut off between two requests.

        The next sweep finishes it, but for trials that were resumed without: then a restore or a purge ends it.
        """
        is_both = checkpoint.uri in self._sizes and checkpoint.decision_id in self._claims
        return is_both and checkpoint.state == "trashed" and checkpoint.uri.startswith("s3:")

    def _trash(self) -> Iterator[str]:
        still_claimed = [one for one, decision in self._decisions.items() if decision.outcome != "trashed"]
        if still_claimed:
            yield f"claims are open after a sweep: {still_claimed}"
        if self._claims != set(self._decisions):
            yield f"the trash holds {sorted(self._claims)}, and the log says {sorted(self._decisions)}"

    def _usage(self) -> Iterator[str]:
        """Compare what usage says with what lies there, and with what did until it was lost by hand."""
        state = self._state
        stored = [one for one in state.checkpoints.values() if one.state == "stored"]
        lost = {one.uri: one.size_bytes for one in stored if one.uri not in self._sizes and one.uri in self._lost}
        expected = {
            "stored_checkpoints": len(stored),
            "stored_bytes": sum((self._sizes | lost).get(one.uri, 0) for one in stored),
            "claimed_checkpoints": 0,
            "claimed_bytes": 0,
        }
        for name, number in expected.items():
            if getattr(state.usage, name) != number:
                yield f"usage says that {name} is {getattr(state.usage, name)}, and it is {number}"
        for one in (state, self._orphans):
            decided = [decision.decided for decision in one.decisions.values()]
            held = {each.decision_id: self._medium.size_in_trash(each) for each in decided}
            for each in decided:
                if self._is_half_back(one.checkpoints[each.uri]):
                    held[each.decision_id] = each.size_bytes
            if one.usage.trashed_bytes != sum(held.values()):
                said = f"usage of {one.experiment_id} says {one.usage.trashed_bytes} bytes in the trash"
                yield f"{said}, which holds {held}"

    def _missing(self) -> Iterator[str]:
        """Let the stores be compared with the log where something has turned up, and see that it was noted."""
        missing = [one.uri for one in self._state.checkpoints.values() if one.state == "missing"]
        turned_up = [uri for uri in missing if self._is_acknowledged(self._found(uri))]
        if turned_up:
            self._services.reconciler.reconcile([], RECONCILE, Nobody())
            state = look(self._services)
            for uri in turned_up:
                if state.checkpoints[uri].state != "stored":
                    yield f"{uri} is {state.checkpoints[uri].state} by the log, and the disk has {self._found(uri)}"

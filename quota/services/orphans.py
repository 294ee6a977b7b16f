"""Moving to the trash what lies in a store and belongs to no checkpoint, by the same protocol as an eviction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from quota.domain.events import (
    CheckpointAdopted,
    EvictionDecided,
    ExperimentRegistered,
    TrialStarted,
    TrialStopped,
)
from quota.domain.identifiers import ORPHANS_STREAM
from quota.domain.manifest import Manifest
from quota.errors import CheckpointGone, PathRefused, StoreError
from quota.eventlog.locations import hold_locations, is_taken
from quota.projections.projector import LockedExperiment
from quota.services.aliases import Aliases
from quota.services.ids import new_id
from quota.services.listing import require_size
from quota.services.named_places import Name
from quota.services.open_decisions import batched
from quota.services.sweep_run import SweepRun
from quota.services.tally import said

_SOME_RESOURCE = 1
"""Nobody knows what an orphan has cost; no trial will ever load it from where it is recorded."""

_NO_TUNER = ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=2)


@dataclass(frozen=True, slots=True)
class _Seen:
    """An orphan that was looked at."""

    uri: str
    root: str
    manifest: Manifest


class OrphanTrasher:
    """Puts orphans into the trash, each as a trial of its own that has ended, in one experiment that has no tuner.

    Their places are not taken: a trial that reports a checkpoint there later is the owner, and gets back what the
    trash holds.

    Args:
        run: Holds the lease, and does what is the same as in a sweep.
        aliases: Says what else may lie at the same place.
        older_than: Age from which on what nobody has reported is an orphan.
    """

    def __init__(self, run: SweepRun, aliases: Aliases, older_than: timedelta) -> None:
        self._run = run
        self._aliases = aliases
        self._older_than = older_than

    def trash(self, uris: Sequence[str]) -> None:
        """Move to the trash what is still an orphan when it is looked at again.

        Raises:
            LogCorrupt: the orphans' stream contradicts itself.
        """
        self._run.chains.require_whole(ORPHANS_STREAM)
        for batch in batched(uris):
            if self._run.should_stop():
                return
            self._aliases.refresh()
            seen = [one for uri in batch if (one := self._look_at(uri)) is not None]
            if seen:
                self._run.start()
                self._claim(seen)
                self._run.settler.settle_claims(ORPHANS_STREAM, self._run.progress.moved)

    def _look_at(self, uri: str) -> _Seen | None:
        """Return what lies there, unless it is gone or was written to since."""
        stores, lease, tally = self._run.stores, self._run.streams.lease, self._run.report.tally
        lease.keep()
        try:
            store, root = stores.holding(uri), stores.root_of(uri) or uri
            manifest = lease.keeping(lambda: store.manifest(uri))
            require_size(uri, manifest)
            own = Name(ORPHANS_STREAM, "", uri)
            lease.keeping(lambda: self._aliases.require_none(own, uri, root, store))
        except CheckpointGone:
            return None
        except (StoreError, PathRefused) as error:
            tally.failed += 1
            tally.errors.append(said(error))
            return None
        if manifest.written_after(self._run.appender.clock.now() - self._older_than):
            return None
        return _Seen(uri, root, manifest)

    def _claim(self, seen: Sequence[_Seen]) -> None:
        """Commit the decisions before any byte is touched."""
        run = self._run
        with run.streams.locked(ORPHANS_STREAM) as locked:
            run.claimer.look_at_stores(locked)
            run.chains.require_rest(locked.stream)
            known = [locked.state.checkpoints[one.uri].trial_id for one in seen if one.uri in locked.state.checkpoints]
            run.claimer.require_as_logged(locked, known)
            if locked.state.experiment is None:
                run.appender.add(locked, _NO_TUNER)
            # Whoever is about to report a checkpoint at one of these places is waited for.
            hold_locations(locked.stream.connection)
            claimed = 0
            for place, one in enumerate(seen, start=1):
                if self._may_be_claimed(locked, one):
                    self._decide(locked, one, place)
                    claimed += 1
            run.projector.store(locked)
        run.report.tally.decided += claimed
        run.progress.expect(claimed)

    def _may_be_claimed(self, locked: LockedExperiment, one: _Seen) -> bool:
        if self._run.stores.root_of(one.uri) != one.root or is_taken(locked.stream.connection, one.uri):
            return False
        known = locked.state.checkpoints.get(one.uri)
        return known is None or not (known.pinned or known.state == "claimed")

    def _decide(self, locked: LockedExperiment, one: _Seen, place: int) -> None:
        add, state = self._run.appender.add, locked.state
        known = state.checkpoints.get(one.uri)
        trial_id = new_id() if known is None else known.trial_id
        if known is None:
            add(locked, TrialStarted(trial_id=trial_id))
            add(locked, TrialStopped(trial_id=trial_id))
        size_bytes = one.manifest.size_bytes
        add(
            locked,
            CheckpointAdopted(trial_id=trial_id, uri=one.uri, size_bytes=size_bytes, resource=_SOME_RESOURCE),
        )
        decided = EvictionDecided(
            decision_id=new_id(),
            sweep_id=self._run.report.sweep_id or "",
            trial_id=trial_id,
            uri=one.uri,
            store_uri=one.root,
            checkpoint_position=state.checkpoints[one.uri].saved_position,
            size_bytes=size_bytes,
            manifest=one.manifest,
            reason="orphan",
            state_position=state.position,
            place=place,
        )
        add(locked, decided)

"""Bringing back what lies in the trash though no decision claims it any more, and letting go of what is kept there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import select

from quota.domain.experiment import Checkpoint
from quota.domain.identifiers import ORPHANS_STREAM, event_id_problem
from quota.domain.locations import parse_location
from quota.domain.parts import parts
from quota.errors import LogCorrupt, PathRefused, ProjectionDiverged, StoreError, StreamArchived
from quota.eventlog.database import NAMES_A_QUERY, Database
from quota.eventlog.locations import overlapping_locations
from quota.ports import CheckpointStore, DistantStore
from quota.projections.projector import LockedExperiment
from quota.projections.tables import decisions
from quota.services.fencing import FencedStreams
from quota.services.stores import Stores

logger = logging.getLogger(__name__)

_ENDED = ("cancelled", "failed", "restored")

_KEPT_FOR = timedelta(days=1)
"""For how long at least a distant store keeps what it needs to bring back what is deleted late. By then no lease holds
under which a process could go on, no connection is open, and servers refuse what was signed."""

_ELSEWHERE = frozenset({"trashed", "purging", "purged"})


@dataclass(frozen=True, slots=True)
class _Ended:
    """A decision that has ended without anything in the trash."""

    experiment_id: str
    decision_id: str
    uri: str
    saved_position: int
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose checkpoint it is that a decision was about; which one, where that is known."""

    experiment_id: str
    uri: str
    saved_position: int | None = None


class Healer:
    """Heals what a process left that was frozen before a move, made it late, and was killed before it undid it.

    It heals likewise what a server has deleted late, when nobody waited for its answer any more.

    Args:
        database: Where the projections are.
        streams: Gives the locks and states.
        stores: Whose trash is looked at.
        now: Tells the time.
    """

    def __init__(self, database: Database, streams: FencedStreams, stores: Stores, now: Callable[[], datetime]) -> None:
        self._database = database
        self._streams = streams
        self._stores = stores
        self._now = now

    def heal(self, experiment_ids: Collection[str]) -> None:
        """Move what the log calls stored, and the trash holds, back to its place."""
        for root in self._stores.roots():
            try:
                claims = self._stores.claims_at(root)
            except (StoreError, PathRefused) as error:
                logger.info("the trash of store %s cannot be looked at: %s", root, error)
                continue
            for ended in self._ended(claims):
                if ended.experiment_id in experiment_ids:
                    self._look_after(root, ended)

    def _ended(self, claims: Collection[str]) -> Iterator[_Ended]:
        """Find the decisions that have ended without anything in the trash."""
        columns = (
            decisions.c.experiment_id,
            decisions.c.decision_id,
            decisions.c.uri,
            decisions.c.checkpoint_position,
            decisions.c.outcome_at,
        )
        # Whoever may write to the trash may put anything there.
        ordered = sorted(claim for claim in claims if event_id_problem(claim) is None)
        for ids in parts(ordered, NAMES_A_QUERY):
            query = select(*columns).where(decisions.c.decision_id.in_(ids), decisions.c.outcome.in_(_ENDED))
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            for row in rows:
                yield _Ended(row.experiment_id, row.decision_id, row.uri, row.checkpoint_position, row.outcome_at)

    def _look_after(self, root: str, ended: _Ended) -> None:
        owners = self._owners(ended)
        for owner in owners:
            try:
                with self._streams.locked(owner.experiment_id) as locked:
                    checkpoint = locked.state.checkpoints.get(owner.uri)
                    if checkpoint is None or ended.decision_id in locked.state.decisions:
                        return
                    if checkpoint.state == "stored" or owner == owners[-1]:
                        self._heal(locked, root, ended, owner)
                        return
            except (LogCorrupt, ProjectionDiverged, StreamArchived) as error:
                logger.warning("what is kept of checkpoint %s is left alone: %s", owner.uri, error)
                return

    def _owners(self, ended: _Ended) -> Sequence[_Owner]:
        """Return whose log says where a decision's checkpoint is to be: of an orphan, that of a trial that reported it.

        Its decision knows nothing of what the trial's experiment has decided since.
        """
        own = _Owner(ended.experiment_id, ended.uri, ended.saved_position)
        if ended.experiment_id != ORPHANS_STREAM:
            return [own]
        with self._database.read() as connection:
            taken = list(overlapping_locations(connection, parse_location(ended.uri)))
        return [_Owner(one.experiment_id, one.uri) for one in taken] or [own]

    def _heal(self, locked: LockedExperiment, root: str, ended: _Ended, owner: _Owner) -> None:
        checkpoint = locked.state.checkpoints[owner.uri]
        is_same = owner.saved_position in {None, checkpoint.saved_position}
        try:
            store = self._stores.at(root)
            if is_same and checkpoint.state == "stored":
                if not self._may_be_written_to(locked, store, ended, checkpoint):
                    self._bring_back(locked, store, ended.decision_id, ended.uri)
                is_over = self._is_past(ended.ended_at)
            elif is_same and checkpoint.state == "missing":
                # Nobody will load it, and its trial may be writing there anew.
                is_over = self._is_past(ended.ended_at)
            else:
                is_over = not is_same or checkpoint.state in _ELSEWHERE
            if is_over and isinstance(store, DistantStore):
                release = partial(store.release, ended.uri, ended.decision_id)
                self._streams.lease.keeping(release, locked.stream.connection)
        except (StoreError, PathRefused) as error:
            logger.warning("checkpoint %s stays in the trash without a claim: %s", ended.uri, error)

    def _may_be_written_to(
        self, locked: LockedExperiment, store: CheckpointStore, ended: _Ended, checkpoint: Checkpoint
    ) -> bool:
        """Tell whether what is gone of a checkpoint may be what its trial has removed, to write the next one there.

        What is deleted late is deleted soon after, or by nobody of ours: the lease sees to that. On a disk a move is
        one step, and what has moved is all of it.
        """
        if not isinstance(store, DistantStore) or ended.ended_at is None:
            return False
        trial = locked.state.trials.get(checkpoint.trial_id)
        is_running = trial is not None and trial.status == "running"
        return is_running and ended.ended_at + 2 * self._streams.lease.term <= self._now()

    def _is_past(self, ended_at: datetime | None) -> bool:
        """Tell whether nothing that was begun before can still be done."""
        return ended_at is not None and ended_at + max(_KEPT_FOR, 2 * self._streams.lease.term) <= self._now()

    def _bring_back(self, locked: LockedExperiment, store: CheckpointStore, decision_id: str, uri: str) -> None:
        restore = partial(store.restore, uri, decision_id)
        if self._streams.lease.keeping(restore, locked.stream.connection):
            logger.warning("checkpoint %s was in the trash without a claim, and is back", uri)

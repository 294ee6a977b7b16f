"""Bringing back what lies in the trash though no decision claims it any more."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator

from sqlalchemy import select

from quota.domain.experiment import ExperimentState
from quota.domain.identifiers import event_id_problem
from quota.domain.parts import parts
from quota.errors import PathRefused, StoreError
from quota.eventlog.database import NAMES_A_QUERY, Database
from quota.projections.tables import decisions
from quota.services.fencing import FencedStreams
from quota.services.stores import Stores

logger = logging.getLogger(__name__)

_ENDED = ("cancelled", "failed", "restored")


class Healer:
    """Heals what a process left that was frozen before a move, made it late, and was killed before it undid it.

    Args:
        database: Where the projections are.
        streams: Gives the locks and states.
        stores: Whose trash is looked at.
    """

    def __init__(self, database: Database, streams: FencedStreams, stores: Stores) -> None:
        self._database = database
        self._streams = streams
        self._stores = stores

    def heal(self, experiment_ids: Collection[str]) -> None:
        """Move what the log calls stored, and the trash holds, back to its place."""
        for root in self._stores.roots():
            try:
                claims = self._stores.claims_at(root)
            except (StoreError, PathRefused) as error:
                logger.info("the trash of store %s cannot be looked at: %s", root, error)
                continue
            for experiment_id, decision_id, uri, saved_position in self._ended(claims):
                if experiment_id in experiment_ids:
                    self._bring_back(experiment_id, root, decision_id, uri, saved_position)

    def _ended(self, claims: Collection[str]) -> Iterator[tuple[str, str, str, int]]:
        """Find the decisions that have ended without anything in the trash."""
        columns = (decisions.c.experiment_id, decisions.c.decision_id, decisions.c.uri, decisions.c.checkpoint_position)
        # Whoever may write to the trash may put anything there.
        ordered = sorted(claim for claim in claims if event_id_problem(claim) is None)
        for ids in parts(ordered, NAMES_A_QUERY):
            query = select(*columns).where(decisions.c.decision_id.in_(ids), decisions.c.outcome.in_(_ENDED))
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            for row in rows:
                yield row.experiment_id, row.decision_id, row.uri, row.checkpoint_position

    def _bring_back(self, experiment_id: str, root: str, decision_id: str, uri: str, saved_position: int) -> None:
        with self._streams.locked(experiment_id) as locked:
            if not _is_stored(locked.state, decision_id, uri, saved_position):
                return
            try:
                if self._stores.at(root).restore(uri, decision_id):
                    logger.warning("checkpoint %s was in the trash without a claim, and is back", uri)
            except (StoreError, PathRefused) as error:
                logger.warning("checkpoint %s stays in the trash without a claim: %s", uri, error)


def _is_stored(state: ExperimentState, decision_id: str, uri: str, saved_position: int) -> bool:
    checkpoint = state.checkpoints.get(uri)
    return (
        decision_id not in state.decisions
        and checkpoint is not None
        and checkpoint.state == "stored"
        and checkpoint.saved_position == saved_position
    )

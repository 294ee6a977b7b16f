"""Answers for people: rows of the auditors' views, on projections that are caught up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, TextClause, select, text

from quota.domain.experiment import AT_ITS_PLACE
from quota.domain.identifiers import DEPLOYMENT_STREAM, event_id_problem, id_problem
from quota.errors import NotFound, NotPermitted, ProjectionDiverged, shown
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.projections.catching_up import CatchUp
from quota.projections.loading import checkpoints_of
from quota.projections.tables import decisions

Answer = list[dict[str, Any]]

EVICTIONS = """
    SELECT * FROM eviction_history
    WHERE (:experiment_id IS NULL OR experiment_id = :experiment_id)
      AND (:trial_id IS NULL OR trial_id = :trial_id)
      AND (:sweep_id IS NULL OR CAST(sweep_id AS TEXT) = :sweep_id)
      AND (:outcome IS NULL OR outcome = :outcome)
    ORDER BY decided_at DESC, experiment_id, decided_position DESC
    LIMIT :most
"""
EXPERIMENTS = """
    SELECT e.experiment_id, e.mode, e.started_at, e.finished_at, u.held_checkpoints, u.running_trials,
           u.stored_checkpoints, u.stored_bytes, u.trashed_bytes, u.freed_bytes, e.trials_resumed,
           e.trials_resumed_without_checkpoint, e.lost_resource, e.checkpoints_evicted
    FROM experiments e JOIN usage u USING (experiment_id)
    WHERE :experiment_id IS NULL OR e.experiment_id = :experiment_id
    ORDER BY e.experiment_id
"""
USAGE = "SELECT * FROM quota_usage ORDER BY experiment_id"
INVENTORY = """
    SELECT * FROM checkpoint_inventory WHERE experiment_id = :experiment_id ORDER BY trial_id, uri
"""
ESTIMATORS = """
    SELECT * FROM estimator_status WHERE experiment_id = :experiment_id ORDER BY level IS NULL, level
"""
RUNGS = "SELECT * FROM rungs WHERE experiment_id = :experiment_id ORDER BY level"

PINNED = """
    SELECT experiment_id, trial_id, uri, state FROM checkpoint_inventory
    WHERE pinned AND state IN ('stored', 'claimed') ORDER BY experiment_id, trial_id, uri
"""


class Queries:
    """Answers from the views.

    Args:
        database: Where they are.
        log: Says which streams there are.
        catching_up: Catches the projections up first.
    """

    def __init__(self, database: Database, log: EventLog, catching_up: CatchUp) -> None:
        self._database = database
        self._log = log
        self._catching_up = catching_up

    def experiment_ids(self) -> list[str]:
        """Return the ids of all experiments, sorted."""
        with self._database.read() as connection:
            heads = self._log.heads(connection)
        return [stream for stream, position, _ in heads if position and stream != DEPLOYMENT_STREAM]

    def require(self, experiment_id: str) -> None:
        """Check that an experiment exists.

        Raises:
            NotFound: it does not.
        """
        if experiment_id not in self.experiment_ids():
            raise NotFound(f"experiment {named(experiment_id)}: there is none; `ckpt-quota experiment list` lists them")

    def catch_up(self, experiment_ids: Sequence[str]) -> dict[str, str]:
        """Write what recorders have appended since to the projections' tables; where that is nothing, take no lock.

        Returns:
            Why experiments are not up to date, by id: this user may not write the tables.
        """
        return self._catching_up.experiments(experiment_ids)

    def catch_up_as_far_as_possible(
        self, experiment_ids: Collection[str] | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, str]:
        """Do the same for those experiments, or for all; what is wrong with one keeps no other from it.

        Returns:
            Why experiments are not up to date, by id: answers about them say what was known before.
        """
        return self._catching_up.as_far_as_possible(only=experiment_ids, should_stop=should_stop)

    def ask(self, query: str, **parameters: object) -> Answer:
        """Run a query of this module. Times come as such, in UTC, from either database."""
        with self._database.read() as connection:
            rows = connection.execute(_typed(query, parameters), parameters).mappings()
            return [
                {name: _moment(value) if name.endswith("_at") else value for name, value in row.items()} for row in rows
            ]

    def experiment(self, experiment_id: str) -> dict[str, Any]:
        """Return what an experiment adds up to.

        Raises:
            NotPermitted: it has no rows yet, and this user may not make them.
            ProjectionDiverged: its rows are gone.
        """
        found = self.ask(EXPERIMENTS, experiment_id=experiment_id)
        if not found:
            behind = self.catch_up([experiment_id]).get(experiment_id)
            if behind is not None:
                raise NotPermitted(f"experiment {experiment_id}: {behind}")
            advice = "run `ckpt-quota audit verify` first; where every chain holds, make them anew: ckpt-quota rebuild"
            raise ProjectionDiverged(f"projections of experiment {experiment_id}: its rows are gone; {advice}")
        return found[0]

    def newest_uri(self, experiment_id: str, trial_id: str) -> str:
        """Return where a trial's newest checkpoint lies, or lay where none does any more.

        Raises:
            NotFound: the trial has none.
        """
        is_id = id_problem(trial_id) is None
        if self.catch_up([experiment_id]):
            state = self._catching_up.look(experiment_id)
            found = [state.checkpoints[uri] for uri in state.trial_uris.get(trial_id, [])]
        else:
            with self._database.read() as connection:
                found = checkpoints_of(connection, experiment_id, [trial_id] if is_id else []).get(trial_id, [])
        if not found:
            advice = f"`ckpt-quota experiment show {experiment_id}` lists them"
            raise NotFound(f"trial {named(trial_id)} of {experiment_id}: it has no checkpoint; {advice}")
        lying = [one.uri for one in found if one.state in AT_ITS_PLACE]
        return lying[-1] if lying else found[-1].uri

    def evictions(
        self,
        experiment_id: str | None,
        outcome: str | None,
        most: int,
        *,
        trial_id: str | None = None,
        sweep_id: str | None = None,
    ) -> Answer:
        """Return the latest decisions, newest first; None stands for any."""
        wanted = {"experiment_id": experiment_id, "trial_id": trial_id, "sweep_id": sweep_id, "outcome": outcome}
        return self.ask(EVICTIONS, **wanted, most=most)


def decision_row(connection: Connection, decision_id: str) -> Row[str, int, str]:
    """Return experiment_id, decided_position and outcome of a decision.

    Raises:
        NotFound: there is none of that id.
    """
    if event_id_problem(decision_id) is not None:
        raise NotFound(f"decision {shown(decision_id)}: this is no decision's id; `ckpt-quota evictions` lists them")
    query = select(decisions.c.experiment_id, decisions.c.decided_position, decisions.c.outcome)
    row = connection.execute(query.where(decisions.c.decision_id == decision_id)).first()
    if row is None:
        raise NotFound(f"decision {decision_id}: there is none; `ckpt-quota evictions` lists them")
    return row


def named(text: str) -> str:
    """Return an id as a message can show it, though it may be none."""
    return text if text.isprintable() else ascii(text)


def _moment(value: object) -> object:
    """Return a time as one, which SQLite keeps as text."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.astimezone(UTC) if isinstance(found, datetime) else found


def _typed(query: str, parameters: Mapping[str, object]) -> TextClause:
    """Tell PostgreSQL the types of texts, and of what may be NULL, which it cannot guess."""
    for name, value in parameters.items():
        if value is None or isinstance(value, str):
            query = query.replace(f":{name}", f"CAST(:{name} AS TEXT)")
    return text(query)

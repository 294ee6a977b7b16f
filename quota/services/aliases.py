"""Finding out whether two locations that the log holds apart are one place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from quota.domain.locations import parse_location
from quota.domain.plan import Plan
from quota.errors import PathRefused
from quota.eventlog.database import Database
from quota.eventlog.locations import locations_named_alike
from quota.ports import CheckpointReader
from quota.projections.projector import Projector
from quota.projections.tables import checkpoints

_LIES_THERE = ("stored", "claimed")
_TRIALS_A_QUERY = 500

Others = Mapping[str, Sequence[tuple[str, str]]]
"""By a candidate's URI: the experiment and URI of each location that might be the same place."""


class Aliases:
    """Compares what is to be evicted with what must not go along with it.

    A tuner that is restarted with resolved paths, or a link such as `latest`, gives one directory a second name; the
    spellings do not overlap, so the log takes them for two checkpoints.

    Args:
        database: Where the log and the projections are.
        projector: Says in which state the others are.
    """

    def __init__(self, database: Database, projector: Projector) -> None:
        self._database = database
        self._projector = projector

    def others(self, plan: Plan) -> Others:
        """Return what each of a plan's candidates is to be compared with.

        Those are the other checkpoints of its trial, and all locations of any trial that end in the same name.
        """
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        with self._database.read() as connection:
            of_trial = self._of_trials(connection, plan)
            alike = locations_named_alike(connection, [candidate.uri for candidate in plan.evictions])
        for candidate in plan.evictions:
            own = (plan.experiment_id, candidate.uri)
            location = parse_location(candidate.uri)
            others = {*alike.get(location.name, ()), *of_trial.get(candidate.trial_id, ())} - {own}
            found[candidate.uri] = sorted(one for one in others if parse_location(one[1]).scheme == location.scheme)
        return found

    def require_none(self, uri: str, others: Others, store: CheckpointReader) -> None:
        """Check that no other checkpoint lies at a candidate's place under another name.

        Raises:
            PathRefused: one does.
            StoreError: that cannot be told.
        """
        if not others[uri]:
            return
        place = store.place(uri)
        for experiment_id, other in others[uri]:
            if store.place(other) == place and self._lies_there(experiment_id, other):
                reason = (
                    f"it is the same place as {other} of experiment {experiment_id}, which would go along with it; use "
                    "one of the two names from now on, and record the other one as missing (event checkpoint_missing)"
                )
                raise PathRefused("checkpoint", "uri", uri, reason)

    @staticmethod
    def _of_trials(connection: Connection, plan: Plan) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        trial_ids = sorted({candidate.trial_id for candidate in plan.evictions})
        for start in range(0, len(trial_ids), _TRIALS_A_QUERY):
            query = select(checkpoints.c.trial_id, checkpoints.c.uri).where(
                checkpoints.c.experiment_id == plan.experiment_id,
                checkpoints.c.trial_id.in_(trial_ids[start : start + _TRIALS_A_QUERY]),
                checkpoints.c.state.in_(_LIES_THERE),
            )
            for row in connection.execute(query):
                found[row.trial_id].append((plan.experiment_id, row.uri))
        return found

    def _lies_there(self, experiment_id: str, uri: str) -> bool:
        with self._database.read() as connection:
            checkpoint = self._projector.look(connection, experiment_id).checkpoints.get(uri)
        return checkpoint is not None and checkpoint.state in _LIES_THERE

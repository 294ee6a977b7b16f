"""What a sweep by a saved plan leaves: what the plan names and stays, and what earlier sweeps have begun."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from quota.domain.plan_changes import why_not_any_more
from quota.domain.policies import Candidate
from quota.errors import LogCorrupt, ProjectionDiverged
from quota.projections.projector import Projector
from quota.projections.tables import IS_OPEN, decisions
from quota.services.objecting import pinning
from quota.services.planning import Planned

_GONE = frozenset({"trashed", "purging", "purged"})
_BEGUN = ("claimed", "purging")
_ELSE = "its limit holds without that or is another one, it could not be moved, or the sweep has ended before"


def begun_before(connection: Connection, sweep_id: str | None) -> int:
    """Return how many decisions of other sweeps than one are open, and do not only wait in the trash."""
    query = select(func.count()).select_from(decisions).where(IS_OPEN, decisions.c.outcome.in_(_BEGUN))
    if sweep_id is not None:
        query = query.where(decisions.c.sweep_id != sweep_id)
    return connection.execute(query).scalar_one()


def not_taken(connection: Connection, projector: Projector, planned: Planned) -> Iterator[str]:
    """Yield which checkpoints are still there that a plan has named, and why.

    Args:
        connection: Sees the log after the sweep.
        projector: Gives states.
        planned: The plan that was carried out.
    """
    deployment = projector.look_at_deployment(connection)
    named: dict[str, list[Candidate]] = defaultdict(list)
    for part in planned.parts:
        named[part.experiment_id] += part.evictions
    for experiment_id, evictions in named.items():
        try:
            state = projector.look(connection, experiment_id)
        except (LogCorrupt, ProjectionDiverged):
            # The report names it among those that cannot be trusted.
            continue
        is_pinned = pinning(state, deployment)
        for one in evictions:
            checkpoint = state.checkpoints[one.uri]
            if checkpoint.saved_position == one.saved_position and checkpoint.state in _GONE:
                continue
            why = why_not_any_more(state, one.uri, one.saved_position, one.reason, is_pinned)
            yield f"checkpoint {one.uri} of trial {one.trial_id} of experiment {experiment_id}: {why or _ELSE}"

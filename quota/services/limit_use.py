"""What limits and reserves hold for now: how much is used, and by whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from quota.domain.deployment import DeploymentState
from quota.domain.limits import Limit, Reserve
from quota.domain.space import Space
from quota.errors import QuotaError
from quota.eventlog.database import Database
from quota.projections.projector import Projector
from quota.projections.tables import experiments, usage
from quota.services.stores import OpenStore

_SHARES = "SELECT set_for, measure, experiment_id, used FROM limit_shares"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """A limit, and what is used under it.

    Attributes:
        limit: The limit as it was set.
        shares: What counts of each experiment, by id, most first. Under a limit on free space these are bytes.
        space: Of a limit on free space, how full its file system is; None where nobody can tell.
        problem: Why nobody can.
    """

    limit: Limit
    shares: Mapping[str, int]
    space: Space | None = None
    problem: str | None = None

    @property
    def used(self) -> int:
        """What is used; of a limit on each experiment by the one that uses most."""
        amounts = self.shares.values()
        return max(amounts, default=0) if self.limit.parsed_scope.kind == "experiments" else sum(amounts)

    @property
    def is_exceeded(self) -> bool | None:
        """Whether a sweep would start for it; None where nobody can tell."""
        if self.limit.is_of_free_space and self.space is None:
            return None
        return self.limit.is_exceeded(self.used, self.space)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveUse:
    """A reserve, and how much of what it keeps is there.

    Attributes:
        reserve: The reserve.
        stored: Checkpoints that are stored in its scope, or their bytes.
    """

    reserve: Reserve
    stored: int


class LimitUses:
    """Answers from the projections, which the caller catches up first, and from the stores' file systems.

    Args:
        database: Where the projections are.
        projector: Gives the deployment's state.
        open_store: Opens stores, to ask how full they are.
    """

    def __init__(self, database: Database, projector: Projector, open_store: OpenStore) -> None:
        self._database = database
        self._projector = projector
        self._open_store = open_store

    def limits(self) -> list[LimitUse]:
        """Return all limits with what is used, innermost first."""
        with self._database.read() as connection:
            deployment = self._projector.look_at_deployment(connection)
            shares = _shares(connection)
        limits = sorted(deployment.limits.values(), key=lambda limit: (*limit.parsed_scope.order, limit.measure))
        return [self._use(deployment, limit, shares.get((limit.scope, limit.measure), {})) for limit in limits]

    def reserves(self) -> list[ReserveUse]:
        """Return all reserves with what is there of them, innermost scope first."""
        query = select(
            experiments.c.experiment_id, experiments.c.labels, usage.c.stored_checkpoints, usage.c.stored_bytes
        ).join(usage, usage.c.experiment_id == experiments.c.experiment_id)
        with self._database.read() as connection:
            deployment = self._projector.look_at_deployment(connection)
            rows = connection.execute(query).all()
        found = []
        for reserve in sorted(deployment.reserves.values(), key=lambda one: (*one.parsed_scope.order, one.measure)):
            scope = reserve.parsed_scope
            inside = [row for row in rows if scope.contains(row.experiment_id, json.loads(row.labels), None)]
            amounts = (row.stored_bytes if reserve.measure == "bytes" else row.stored_checkpoints for row in inside)
            found.append(ReserveUse(reserve=reserve, stored=sum(amounts)))
        return found

    def labels(self) -> set[tuple[str, str]]:
        """Return what experiments are labelled with."""
        with self._database.read() as connection:
            rows = connection.execute(select(experiments.c.labels)).scalars()
            return {label for labels in rows for label in json.loads(labels).items()}

    def _use(self, deployment: DeploymentState, limit: Limit, shares: Mapping[str, int]) -> LimitUse:
        shares = dict(sorted(shares.items(), key=lambda share: (-share[1], share[0])))
        if not limit.is_of_free_space:
            return LimitUse(limit=limit, shares=shares)
        store = deployment.store_around(limit.parsed_scope.name)
        if store is None:
            problem = "its store was removed; add it again, or remove the limit"
            return LimitUse(limit=limit, shares=shares, problem=problem)
        try:
            return LimitUse(limit=limit, shares=shares, space=self._open_store(store.uri).space())
        except QuotaError as error:
            return LimitUse(limit=limit, shares=shares, problem=str(error))


def _shares(connection: Connection) -> dict[tuple[str, str], dict[str, int]]:
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in connection.execute(text(_SHARES)):
        found.setdefault((row.set_for, row.measure), {})[row.experiment_id] = row.used
    return found

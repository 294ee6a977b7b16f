"""Planning for the limits that experiments share: of each experiment no more is kept at hand than its standing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from quota.domain.deployment import DeploymentState
from quota.domain.events import PolicyParameters
from quota.domain.experiment import ExperimentState
from quota.domain.held_back import HeldBack, Obstacle, held_back
from quota.domain.identifiers import ORPHANS_STREAM
from quota.domain.keeping import Rules
from quota.domain.limits import EffectiveLimit
from quota.domain.plan import Plan, SharedPlan
from quota.domain.planning import plan_shared
from quota.domain.space import Space
from quota.domain.standing import Standing, standing_of
from quota.errors import LogCorrupt, PathRefused, ProjectionDiverged, QuotaError, StoreError

logger = logging.getLogger(__name__)


class LookedAt(Protocol):
    """Gives an experiment's state for a while."""

    def __call__(self, experiment_id: str, *, ranked: bool) -> AbstractContextManager[ExperimentState]:
        """Give it, with its rungs where `ranked` says so."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Plans for the limits that experiments share.

    Attributes:
        deployment: Says what the limits, reserves and pins are.
        parameters: The policy.
        looked_at: Gives an experiment's state, up to its last event.
        rules: Gives its rules.
        obstacle: What keeps a checkpoint's URI from being evicted, if anything does.
        space_at: Tells how full the file system of a store is, by its root.
        distrust: Is told which experiments contradict themselves: nothing of them counts, and nothing of them goes.
    """

    deployment: DeploymentState
    parameters: PolicyParameters
    looked_at: LookedAt
    rules: Callable[[ExperimentState], Rules]
    obstacle: Callable[[str], Obstacle | None]
    space_at: Callable[[str], Space | None]
    distrust: Callable[[str, QuotaError], None]

    def plan(
        self, experiment_ids: Sequence[str], chosen: Collection[str], own: Sequence[Plan] = ()
    ) -> list[SharedPlan]:
        """Return a plan for each limit, innermost first.

        What could be evicted is only looked for where a limit is exceeded.

        Args:
            experiment_ids: All that there are: what each holds counts.
            chosen: Those that anything may be evicted from.
            own: What is evicted before, under the experiments' own limits.
        """
        limits = self.deployment.shared_limits
        if not limits:
            return []
        spaces = [self._space(limit) for limit in limits]
        plans = self._planned(self._standings(experiment_ids, limits, ()), limits, spaces, own)
        if any(plan.purges or plan.shortfall for plan in plans):
            plans = self._planned(self._standings(experiment_ids, limits, chosen), limits, spaces, own)
        return [self._explained(plan, chosen, own, plans) if plan.shortfall else plan for plan in plans]

    def _planned(
        self,
        standings: Sequence[Standing],
        limits: Sequence[EffectiveLimit],
        spaces: Sequence[Space | None],
        own: Sequence[Plan],
    ) -> list[SharedPlan]:
        return plan_shared(standings, limits, spaces, self.deployment.all_reserves, self.parameters, own)

    def _standings(
        self, experiment_ids: Iterable[str], limits: Sequence[EffectiveLimit], chosen: Collection[str]
    ) -> list[Standing]:
        found: list[Standing] = []
        for experiment_id in experiment_ids:
            # Orphans are nobody's checkpoints; what of them is in the trash takes up room all the same.
            is_orphans = experiment_id == ORPHANS_STREAM
            may_evict = experiment_id in chosen and not is_orphans
            may_purge = experiment_id in chosen or is_orphans
            try:
                with self.looked_at(experiment_id, ranked=may_evict) as state:
                    rules, may = self.rules(state), {"may_evict": may_evict, "may_purge": may_purge}
                    standing = standing_of(state, limits, rules, self.obstacle, **may)
            except (LogCorrupt, ProjectionDiverged) as error:
                self.distrust(experiment_id, error)
            else:
                found.append(standing)
        return found

    def _space(self, effective: EffectiveLimit) -> Space | None:
        if not effective.limit.is_of_free_space:
            return None
        store = self.deployment.store_around(effective.scope.name)
        if store is None:
            logger.warning("limit on %s: no store lies there, so nobody can tell what is free", effective.scope.text)
            return None
        try:
            return self.space_at(store.uri)
        except (StoreError, PathRefused) as error:
            logger.warning("limit on %s: what is free cannot be told: %s", effective.scope.text, error)
            return None

    def _explained(
        self, plan: SharedPlan, chosen: Collection[str], own: Sequence[Plan], shared: Sequence[SharedPlan]
    ) -> SharedPlan:
        """Say what a plan leaves that does not bring its limit down."""
        parts = [*own, *(part for one in shared for part in one.parts)]
        counts: Counter[HeldBack] = Counter()
        for experiment_id in sorted(set(chosen) - {ORPHANS_STREAM}):
            gone = {one.uri for part in parts if part.experiment_id == experiment_id for one in part.evictions}
            try:
                with self.looked_at(experiment_id, ranked=False) as state:
                    if state.experiment is not None:
                        rules, scope, measure = self.rules(state), plan.limit.parsed_scope, plan.limit.measure
                        counts += held_back(state, scope, measure, rules, self.obstacle, gone, plan.reserved)
            except (LogCorrupt, ProjectionDiverged):
                continue
        return replace(plan, held_back={reason: number for reason, number in sorted(counts.items()) if number})

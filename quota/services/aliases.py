"""Finding out whether two locations that the log holds apart are one place, or one within the other."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from quota.domain.locations import Location, parse_location
from quota.domain.plan import Plan
from quota.errors import LogCorrupt, PathRefused, ProjectionDiverged
from quota.eventlog.database import Database
from quota.eventlog.locations import locations_named_alike
from quota.ports import CheckpointReader
from quota.projections.catching_up import CatchUp
from quota.projections.projector import Projector
from quota.projections.tables import checkpoints

_LIES_THERE = ("stored", "claimed")
_TRIALS_A_QUERY = 500

Named = tuple[str, str]
"""An experiment, and a URI that the log has of it."""


@dataclass(frozen=True, slots=True)
class Others:
    """What a plan's candidates are to be compared with.

    Attributes:
        by_uri: By a candidate's URI: locations that are likely to be the same place, though just recorded.
        newest: By trial: its latest checkpoint that lies at its place.
    """

    by_uri: Mapping[str, Sequence[Named]]
    newest: Mapping[str, str]


class Aliases:
    """Compares what is to be evicted in one sweep with what must not go along with it.

    A tuner that is restarted with resolved paths, or a link such as `latest`, gives one directory a second name; the
    spellings do not overlap, so the log takes them for two checkpoints.

    Args:
        database: Where the log and the projections are.
        projector: Says in which state the others are.
        catching_up: Catches their tables up.
    """

    def __init__(self, database: Database, projector: Projector, catching_up: CatchUp) -> None:
        self._database = database
        self._projector = projector
        self._catching_up = catching_up
        self._places: dict[str, tuple[list[str], dict[str, list[Named]]]] = {}

    def others(self, plan: Plan) -> Others:
        """Return the other checkpoints of the candidates' trials, and all locations that end in the same names."""
        found: dict[str, list[Named]] = {}
        with self._database.read() as connection:
            of_trial = self._of_trials(connection, plan)
            alike = locations_named_alike(connection, [candidate.uri for candidate in plan.evictions])
        for candidate in plan.evictions:
            own = (plan.experiment_id, candidate.uri)
            siblings = [(plan.experiment_id, uri) for uri in of_trial.get(candidate.trial_id, ())]
            location = parse_location(candidate.uri)
            named = {*alike.get(location.name, ()), *siblings} - {own}
            found[candidate.uri] = sorted(one for one in named if parse_location(one[1]).scheme == location.scheme)
        return Others(found, {trial_id: uris[-1] for trial_id, uris in of_trial.items()})

    def require_none(self, experiment_id: str, uri: str, others: Others, root: str, store: CheckpointReader) -> None:
        """Check that no other checkpoint lies at a candidate's place, around or within it under another name.

        What leads to the store's root, or to a directory around it, is a mistaken link and no checkpoint: it would
        keep all of the store.

        Raises:
            PathRefused: one does.
            StoreError: that cannot be told.
        """
        place, root_place = parse_location(store.place(uri)), parse_location(store.place(root))
        likely = (one for one in others.by_uri[uri] if _overlap(place, parse_location(store.place(one[1]))))
        for other_experiment, other in (*likely, *self._overlapping(place, store)):
            if (other_experiment, other) == (experiment_id, uri):
                continue
            if parse_location(store.place(other)).contains(root_place):
                continue
            if self._lies_there(other_experiment, other):
                reason = (
                    f"it is the same place as {other} of experiment {other_experiment}, or overlaps it, and that would "
                    "go along with it; use one of the two names from now on, and record the other one as missing "
                    "(event checkpoint_missing)"
                )
                raise PathRefused("checkpoint", "uri", uri, reason)

    def _overlapping(self, place: Location, store: CheckpointReader) -> Iterator[Named]:
        """Find what lay at, around or within a place when the sweep first asked."""
        if place.scheme not in self._places:
            self._places[place.scheme] = self._all_places(place.scheme, store)
        keys, named = self._places[place.scheme]
        for key in (*place.ancestors(), place.key):
            yield from named.get(key, ())
        for key in keys[bisect_left(keys, place.key) :]:
            if not key.startswith(place.key):
                return
            yield from named[key]

    def _all_places(self, scheme: str, store: CheckpointReader) -> tuple[list[str], dict[str, list[Named]]]:
        self._catch_up()
        query = select(checkpoints.c.experiment_id, checkpoints.c.uri).where(
            checkpoints.c.state.in_(_LIES_THERE), checkpoints.c.uri.startswith(f"{scheme}://", autoescape=True)
        )
        named: dict[str, list[Named]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.execute(query):
                named[parse_location(store.place(row.uri)).key].append((row.experiment_id, row.uri))
        return sorted(named), dict(named)

    def _catch_up(self) -> None:
        for experiment_id in self._catching_up.behind():
            try:
                self._catching_up.experiment(experiment_id)
            except (LogCorrupt, ProjectionDiverged):
                # The sweep says so in that experiment's own turn; until it is mended, its tables are all there is.
                continue

    @staticmethod
    def _of_trials(connection: Connection, plan: Plan) -> dict[str, list[str]]:
        """Return where trials' checkpoints lie, the latest last."""
        found: dict[str, list[str]] = defaultdict(list)
        trial_ids = sorted({candidate.trial_id for candidate in plan.evictions})
        for start in range(0, len(trial_ids), _TRIALS_A_QUERY):
            query = select(checkpoints.c.trial_id, checkpoints.c.uri).where(
                checkpoints.c.experiment_id == plan.experiment_id,
                checkpoints.c.trial_id.in_(trial_ids[start : start + _TRIALS_A_QUERY]),
                checkpoints.c.state.in_(_LIES_THERE),
            )
            for row in connection.execute(query.order_by(checkpoints.c.saved_position)):
                found[row.trial_id].append(row.uri)
        return found

    def _lies_there(self, experiment_id: str, uri: str) -> bool:
        with self._database.read() as connection:
            checkpoint = self._projector.look(connection, experiment_id).checkpoints.get(uri)
        return checkpoint is not None and checkpoint.state in _LIES_THERE


def _overlap(one: Location, other: Location) -> bool:
    return one.contains(other) or other.contains(one)

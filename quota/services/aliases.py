"""Finding out whether two locations that the log holds apart are one place, or one within the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from quota.domain.experiment import AT_ITS_PLACE, Checkpoint
from quota.domain.identifiers import ORPHANS_STREAM
from quota.domain.locations import parse_location
from quota.domain.parts import parts
from quota.domain.plan import Plan
from quota.errors import LogCorrupt, PathRefused, ProjectionDiverged, StoreError
from quota.eventlog.database import NAMES_A_QUERY, Database
from quota.ports import CheckpointReader
from quota.projections.catching_up import CatchUp
from quota.projections.loading import checkpoints_of
from quota.projections.projector import Projector
from quota.projections.tables import checkpoints, projected_streams
from quota.services.named_places import Name, NamedPlaces


class Aliases:
    """Compares what is to be evicted in one sweep with what must not go along with it.

    A tuner that is restarted with resolved paths, or a link such as `latest`, gives one directory a second name; the
    spellings do not overlap, so the log takes them for two checkpoints. Each name is followed once a sweep, and those
    that may be the candidate's successor again for each candidate.

    Args:
        database: Where the log and the projections are.
        projector: Says in which state the others are.
        catching_up: Catches their tables up.
    """

    def __init__(self, database: Database, projector: Projector, catching_up: CatchUp) -> None:
        self._database = database
        self._projector = projector
        self._catching_up = catching_up
        self._distrusted: set[str] = set()
        self._read_until: dict[str, int] = {}
        self._unfollowed: dict[str, list[Name]] = defaultdict(list)
        self._unseen: dict[tuple[str, str], list[Name]] = defaultdict(list)
        self._places: dict[str, NamedPlaces] = defaultdict(NamedPlaces)

    def refresh(self) -> None:
        """Read which checkpoints have been saved since the last time, in whatever experiment."""
        # The sweep says why in that experiment's own turn; until it is mended, its tables are all there is.
        self._distrusted.update(self._catching_up.as_far_as_possible(but=self._distrusted))
        with self._database.read() as connection:
            heads = connection.execute(select(projected_streams.c.experiment_id, projected_streams.c.position))
            grown = {
                row.experiment_id: row.position
                for row in heads
                # Orphans are nobody's checkpoints: nothing is lost along with what lies at their places.
                if row.experiment_id != ORPHANS_STREAM and row.position > self._until(row.experiment_id)
            }
            for experiment_ids in parts(sorted(grown), NAMES_A_QUERY):
                self._read(connection, experiment_ids)
        self._read_until.update(grown)

    def lying(self, plan: Plan) -> dict[str, list[Checkpoint]]:
        """Return, by candidates' trials, the checkpoints of each that lie at their places, the latest last."""
        found: dict[str, list[Checkpoint]] = {}
        with self._database.read() as connection:
            for trial_ids in parts(sorted({candidate.trial_id for candidate in plan.evictions}), NAMES_A_QUERY):
                for trial_id, own in checkpoints_of(connection, plan.experiment_id, trial_ids).items():
                    found[trial_id] = [one for one in own if one.state in AT_ITS_PLACE]
        return found

    def require_none(self, own: Name, newest: str, root: str, store: CheckpointReader) -> None:
        """Check that no other checkpoint lies at a checkpoint's place, around or within it under another name.

        What leads to the store's root, or to a directory around it, is a mistaken link and no checkpoint: it would
        keep all of the store. Names that cannot be followed keep their own trial's checkpoints only, or one dead
        mount would keep everything.

        Args:
            own: The checkpoint, by its own name.
            newest: Where its trial's latest checkpoint lies.
            root: Its store's root.
            store: Its store.

        Raises:
            PathRefused: one does, or another one of its trial may.
            StoreError: its own name cannot be followed.
        """
        place, root_place = parse_location(store.place(own.uri)), parse_location(store.place(root))
        places = self._places[place.scheme]
        self._follow(self._unfollowed.pop(place.scheme, []), store)
        # Links may have been set anew since; what a trial needs next is the last thing to lose by that.
        suspects = [*self._unseen.pop(own[:2], []), *([own._replace(uri=newest)] if newest != own.uri else [])]
        self._follow(suspects, store)
        for other in places.overlapping(place, but_none_around=root_place):
            if other != own and self._lies_there(other):
                reason = (
                    f"it is the same place as {other.uri} of experiment {other.experiment_id}, or overlaps it, and "
                    "that would go along with it; use one of the two names from now on, and record the other one as "
                    "missing (event checkpoint_missing)"
                )
                raise PathRefused("checkpoint", "uri", own.uri, reason)
        for other in self._unseen.get(own[:2], ()):
            if other != own and self._lies_there(other):
                reason = (
                    f"its trial's checkpoint {other.uri} may be the same place, and cannot be looked at; let this "
                    "process look there, or record that one as missing (event checkpoint_missing)"
                )
                raise PathRefused("checkpoint", "uri", own.uri, reason)

    def _until(self, experiment_id: str) -> int:
        return self._read_until.get(experiment_id, 0)

    def _read(self, connection: Connection, experiment_ids: Sequence[str]) -> None:
        """Read what was saved since. What lies in the trash may be put back, and what is missing may turn up."""
        table = checkpoints.c
        query = select(table.experiment_id, table.trial_id, table.uri, table.saved_position).where(
            table.experiment_id.in_(experiment_ids),
            table.state != "purged",
            table.saved_position > min(self._until(experiment_id) for experiment_id in experiment_ids),
        )
        for row in connection.execute(query.order_by(table.experiment_id, table.uri)):
            if row.saved_position > self._until(row.experiment_id):
                name = Name(row.experiment_id, row.trial_id, row.uri)
                self._unfollowed[parse_location(row.uri).scheme].append(name)

    def _follow(self, names: Iterable[Name], store: CheckpointReader) -> None:
        for name in names:
            try:
                place = store.place(name.uri)
            except StoreError:
                self._unseen[name[:2]].append(name)
                place = name.uri
            self._places[parse_location(place).scheme].add(parse_location(place), name)

    def _lies_there(self, name: Name) -> bool:
        try:
            with self._database.read() as connection:
                checkpoint = self._projector.look(connection, name.experiment_id).checkpoints.get(name.uri)
        except (LogCorrupt, ProjectionDiverged):
            return True
        return checkpoint is not None and checkpoint.state in AT_ITS_PLACE

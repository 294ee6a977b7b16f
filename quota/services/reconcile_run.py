"""Comparing one store with the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace

from sqlalchemy import or_, select

from quota.domain.events import CheckpointFound
from quota.domain.experiment import AT_ITS_PLACE, OPEN_OUTCOMES
from quota.domain.identifiers import ORPHANS_STREAM, TRASH_NAME, event_id_problem
from quota.domain.locations import Location, location_problem, parse_location
from quota.domain.manifest import LARGEST_BYTES, Manifest
from quota.domain.parts import parts
from quota.domain.reconciliation import Comparison, Expected, Orphan, StoredItem
from quota.errors import CheckpointGone, LogCorrupt, PathRefused, ProjectionDiverged, StoreError, StreamArchived
from quota.eventlog.database import NAMES_A_QUERY, Database
from quota.eventlog.locations import lies_below, overlapping_locations
from quota.ports import BeholdingStore, CheckpointStore
from quota.projections.catching_up import CatchUp
from quota.projections.projector import LockedExperiment, Projector
from quota.projections.tables import checkpoints, decisions
from quota.services.aliases import Aliases
from quota.services.appending import Appender
from quota.services.findings import Finding, ReconcileOrder, ReconcileReport, Watcher
from quota.services.looking import looked_at
from quota.services.named_places import Name
from quota.services.rescuing import Rescuer
from quota.services.stores import Stores
from quota.services.taken_orphans import is_taken_for_an_orphan

_LOOKS_A_LOCK = 25


@dataclass(slots=True, kw_only=True)
class ReconcileRun:
    """One store's comparison under way."""

    database: Database
    projector: Projector
    catching_up: CatchUp
    appender: Appender
    rescuer: Rescuer
    aliases: Aliases
    stores: Stores
    root: str
    order: ReconcileOrder
    watcher: Watcher
    keep: Callable[[], None]
    report: ReconcileReport

    def compare(self) -> None:
        """Tell what differs, and record what is to be recorded.

        Raises:
            StoreError: the store cannot be reached or read.
            PathRefused: there is nothing at its root.
        """
        store, root = self.stores.at(self.root), parse_location(self.root)
        comparison = Comparison(root, self._expected())
        hiding: list[str] = []
        with closing(store.survey()) as items:
            for item in items:
                if self.watcher.should_stop():
                    return
                self._count(item)
                if item.problem is not None:
                    uri = root.spell_below(item.path)
                    hiding.append(f"{uri.removesuffix('/')}/")
                    self.watcher.found(Finding(kind="not_looked_into", uri=uri, note=item.problem))
                self._tell_orphan(comparison.take(item))
        self._tell_orphan(comparison.close())
        self.report.linked.update(root.spell_below(path) if path else self.root for path in comparison.linked)
        differing: dict[str, list[Expected]] = defaultdict(list)
        for one in comparison.expected:
            self.report.checkpoints += 1
            if one.state == "missing" and not one.is_found and _lies_below(one.uri, hiding):
                one.is_found = _is_beheld(one.uri, store)
            if one.is_absent or one.has_turned_up or one.has_another_size:
                differing[one.experiment_id].append(one)
        self.aliases.refresh()
        for experiment_id, ones in sorted(differing.items()):
            try:
                self._settle(experiment_id, ones, store)
            except (LogCorrupt, ProjectionDiverged) as error:
                self.report.untrusted[experiment_id] = str(error)
        self._look_at_trash(store)

    def _count(self, item: StoredItem) -> None:
        self.report.files += not item.is_directory
        self.report.size_bytes += item.size_bytes
        self.watcher.listed()
        self.keep()

    def _expected(self) -> list[Expected]:
        columns = [checkpoints.c[field.name] for field in fields(Expected) if field.name in checkpoints.c]
        query = (
            select(*columns)
            .where(checkpoints.c.experiment_id != ORPHANS_STREAM, checkpoints.c.state.in_((*AT_ITS_PLACE, "missing")))
            .where(lies_below(checkpoints.c.uri, parse_location(self.root)))
            .order_by(checkpoints.c.experiment_id, checkpoints.c.uri)
        )
        with self.database.read() as connection:
            return [Expected(**row) for row in connection.execute(query).mappings()]

    def _settle(self, experiment_id: str, differing: Sequence[Expected], store: CheckpointStore) -> None:
        """Look again at what differed when it was listed, and record it where that is wanted."""
        for part in parts(differing, _LOOKS_A_LOCK):
            self.keep()
            looked_at = [(one, self._look_again(one, store)) for one in part]
            certain = [(one, finding) for one, finding in looked_at if finding is not None]
            findings = [finding for _, finding in certain]
            if self.order.record and certain:
                findings = self._record(experiment_id, certain)
            for finding in findings:
                self.watcher.found(finding)

    def _record(self, experiment_id: str, certain: Sequence[tuple[Expected, Finding]]) -> list[Finding]:
        try:
            with self.projector.locked([experiment_id]) as locked:
                findings = [self._recorded(locked[experiment_id], one, finding) for one, finding in certain]
                self.projector.store(locked[experiment_id])
        except StreamArchived as error:
            return [replace(finding, note=str(error)) for _, finding in certain]
        return findings

    def _look_again(self, one: Expected, store: CheckpointStore) -> Finding | None:
        finding = Finding(
            kind="missing",
            uri=one.uri,
            experiment_id=one.experiment_id,
            trial_id=one.trial_id,
            logged_bytes=one.size_bytes,
        )
        try:
            manifest = _seen(one, store)
            if one.has_turned_up:
                name = Name(one.experiment_id, one.trial_id, one.uri)
                self.aliases.require_none(name, one.uri, self.root, store)
        except CheckpointGone:
            return finding if one.state == "stored" else None
        except (StoreError, PathRefused) as error:
            return replace(finding, kind="not_looked_into", note=str(error))
        if one.has_turned_up:
            return replace(finding, kind="turned_up", found_bytes=manifest.size_bytes, note=_otherness(one, manifest))
        if manifest.size_bytes == one.size_bytes:
            return None
        return replace(finding, kind="resized", found_bytes=manifest.size_bytes)

    def _recorded(self, locked: LockedExperiment, one: Expected, finding: Finding) -> Finding:
        """Record a finding, provided that the log says of the checkpoint what it said when the store was listed."""
        checkpoint = locked.state.checkpoints[one.uri]
        if (checkpoint.state, checkpoint.saved_position) != (one.state, one.saved_position):
            return finding
        if finding.kind == "missing" and is_taken_for_an_orphan(locked.stream.connection, one.uri):
            return replace(finding, note="it lies in the trash as an orphan, and the next sweep brings it back")
        if finding.kind == "missing":
            self.rescuer.look_for(locked, one.uri)
            return replace(finding, is_recorded=checkpoint.state == "missing")
        if finding.note is not None or finding.found_bytes is None or finding.found_bytes > LARGEST_BYTES:
            return finding
        found = CheckpointFound(trial_id=one.trial_id, uri=one.uri, size_bytes=finding.found_bytes)
        self.appender.add(locked, found)
        return replace(finding, is_recorded=True)

    def _tell_orphan(self, orphan: Orphan | None) -> None:
        if orphan is None:
            return
        uri = parse_location(self.root).spell_below(orphan.path)
        is_young = self.appender.clock.now() - orphan.modified_at < self.order.orphans_older_than
        finding = Finding(
            kind="young_orphan" if is_young else "orphan",
            uri=uri,
            found_bytes=orphan.size_bytes,
            files=orphan.files,
            modified_at=orphan.modified_at,
            note=None if orphan.is_whole else "not all of it could be looked into",
        )
        if orphan.is_beside:
            beside = "it lies beside what trials have saved, and may be theirs: adopt it, or remove it by hand"
            finding = replace(finding, note=finding.note or beside)
        problem = location_problem(uri)
        if problem is not None:
            self.watcher.found(replace(finding, note=f"it cannot be a checkpoint's place: {problem}"))
            return
        location = parse_location(uri)
        with self.database.read() as connection:
            owners = {(one.experiment_id, one.trial_id) for one in overlapping_locations(connection, location)}
        # A trial may have said since the log was read that it has saved a checkpoint there.
        if owners and self._holds_stored(location, sorted({experiment_id for experiment_id, _ in owners})):
            return
        if owners:
            finding = replace(finding, note=finding.note or "trials have saved checkpoints here before")
        if len(owners) == 1:
            ((experiment_id, trial_id),) = owners
            finding = replace(finding, experiment_id=experiment_id, trial_id=trial_id)
        self.watcher.found(finding)

    def _holds_stored(self, location: Location, experiment_ids: Sequence[str]) -> bool:
        """Tell whether any of the experiments has a checkpoint at, around or within a location."""
        try:
            self.catching_up.experiments(experiment_ids)
        except (LogCorrupt, ProjectionDiverged):
            # Whatever it is, it may be one of theirs.
            return True
        uri = checkpoints.c.uri
        query = select(uri).where(
            checkpoints.c.experiment_id.in_(experiment_ids),
            checkpoints.c.state.in_(AT_ITS_PLACE),
            or_(uri.in_(location.spellings_around()), lies_below(uri, location)),
        )
        with self.database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def _look_at_trash(self, store: CheckpointStore) -> None:
        claims = sorted(store.claims())
        root = parse_location(self.root)
        for ids in parts(claims, NAMES_A_QUERY):
            decision_ids = [claim_id for claim_id in ids if event_id_problem(claim_id) is None]
            query = select(decisions.c.decision_id, decisions.c.outcome).where(
                decisions.c.decision_id.in_(decision_ids)
            )
            with self.database.read() as connection:
                outcomes = {row.decision_id: row.outcome for row in connection.execute(query)}
            for claim_id in ids:
                outcome = outcomes.get(claim_id)
                if outcome in OPEN_OUTCOMES:
                    continue
                uri = root.spell_below(f"{TRASH_NAME}/{claim_id}".encode())
                try:
                    # One that has ended, and of which the trash holds nothing any more, is kept for a while.
                    is_there = outcome is None or store.trashed(claim_id)
                except StoreError as error:
                    self.watcher.found(Finding(kind="not_looked_into", uri=uri, note=str(error)))
                    continue
                if is_there:
                    self.watcher.found(Finding(kind="orphan_in_trash", uri=uri))


def _lies_below(uri: str, places: Sequence[str]) -> bool:
    return any(parse_location(uri).key.startswith(place) for place in places)


def _is_beheld(uri: str, store: CheckpointStore) -> bool:
    """Tell whether something lies at a place which is behind what the store does not look into."""
    if not isinstance(store, BeholdingStore):
        return False
    try:
        store.behold(uri)
    except (StoreError, PathRefused):
        return False
    return True


def _seen(one: Expected, store: CheckpointStore) -> Manifest:
    """Return what lies at a checkpoint's place.

    What was missing while its file system was not mounted is there again, though nothing may ever be deleted on it.
    """
    try:
        return looked_at(store, one.uri, one.size_bytes)
    except PathRefused:
        if not (one.has_turned_up and isinstance(store, BeholdingStore)):
            raise
        return store.behold(one.uri)


def _otherness(one: Expected, manifest: Manifest) -> str | None:
    """Say why what has turned up may not be what was missing; None where it is."""
    if manifest.size_bytes != one.size_bytes:
        return "it has another size than the one that was missing"
    if manifest.written_after(one.saved_at):
        return "it was written after the one that was missing had been saved"
    return None

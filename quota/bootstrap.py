"""The composition root: the one place where the parts are put together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import EntryPoints, entry_points, version
from pathlib import Path
from typing import cast

from quota.domain.events import PolicyParameters
from quota.errors import SettingsRefused, StoreError
from quota.eventlog.clock_watch import ClockWatch
from quota.eventlog.database import Database
from quota.eventlog.heartbeats import Heartbeats
from quota.eventlog.leases import Leases
from quota.eventlog.log import EventLog
from quota.eventlog.schema import require_head
from quota.ports import CheckpointStore, Clock, SparingStore
from quota.projections.catching_up import CatchUp
from quota.projections.projector import Projector
from quota.projections.rebuild import Rebuilder
from quota.services.administration import Administration
from quota.services.adopting import Adopter
from quota.services.appending import Appender
from quota.services.archive_book import ArchiveBook
from quota.services.archiving import Archiver
from quota.services.auditing import Auditor
from quota.services.clock_guard import ClockGuard
from quota.services.explaining import Explainer
from quota.services.exporting import Exporter
from quota.services.limit_use import LimitUses
from quota.services.planning import Planner
from quota.services.querying import Queries
from quota.services.recomputing import Recomputer
from quota.services.reconciling import Reconciler
from quota.services.recording import Recorder
from quota.services.removing_events import EventRemover
from quota.services.rescuing import Rescuer
from quota.services.restoring import Restorer
from quota.services.restoring_events import EventRestorer
from quota.services.returning import OrphanReturner
from quota.services.saved_plans import PlanKeeper
from quota.services.stores import OpenStore
from quota.services.sweep_order import SweepOrder
from quota.services.sweeping import Sweeper
from quota.settings import Settings

DISTRIBUTION = "checkpoint-quota"
STORES_GROUP = "quota.stores"
# What SQLite, and the queue of its writers, keep beside a database.
_COMPANIONS = ("", "-wal", "-shm", "-journal", "-turn")


class SystemClock:
    """The host's clock."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)


def software_version() -> str:
    """Return the version of this package."""
    return version(DISTRIBUTION)


@cache
def _adapters() -> EntryPoints:
    """Find the installed adapters: once, as that reads the metadata of all packages, and stores are opened often."""
    return entry_points(group=STORES_GROUP)


def open_store(root_uri: str) -> CheckpointStore:
    """Open a store with the adapter that is installed for its scheme.

    Raises:
        SettingsRefused: no adapter is installed for the scheme.
        StoreError: the adapter cannot be loaded, or cannot open the root.
    """
    scheme = root_uri.partition("://")[0]
    found = list(_adapters().select(name=scheme))
    if not found:
        known = ", ".join(sorted(_adapters().names))
        reason = f"no adapter is installed for this scheme; installed are: {known}"
        raise SettingsRefused(f"store {root_uri}", "scheme", scheme, reason)
    try:
        factory = found[0].load()
    except ImportError as error:
        advice = f"install what it needs: pip install 'checkpoint-quota[{scheme}]'"
        raise StoreError(f"store {root_uri}: its adapter cannot be loaded: {error}; {advice}") from error
    return cast("CheckpointStore", factory(root_uri))


def sweep_order(settings: Settings, parameters: PolicyParameters) -> SweepOrder:
    """Return how to sweep by the settings and by a policy."""
    return SweepOrder(
        parameters=parameters,
        retention=settings.trash_retention,
        lease_term=settings.lease_term,
        most_evictions=settings.most_evictions,
        most_evicted_bytes=settings.most_evicted_bytes,
        clock_tolerance=settings.clock_tolerance,
    )


@dataclass(frozen=True, slots=True)
class Services:
    """All use cases over one database."""

    database: Database
    log: EventLog
    projector: Projector
    recorder: Recorder
    planner: Planner
    plan_keeper: PlanKeeper
    leases: Leases
    heartbeats: Heartbeats
    sweeper: Sweeper
    restorer: Restorer
    reconciler: Reconciler
    adopter: Adopter
    administration: Administration
    limit_uses: LimitUses
    rebuilder: Rebuilder
    auditor: Auditor
    recomputer: Recomputer
    explainer: Explainer
    exporter: Exporter
    archive_book: ArchiveBook
    archiver: Archiver
    event_remover: EventRemover
    event_restorer: EventRestorer
    queries: Queries
    clock: Clock
    actor: str


@contextmanager
def services(
    database_url: str,
    actor: str,
    *,
    clock: Clock | None = None,
    opener: OpenStore = open_store,
) -> Iterator[Services]:
    """Open a database whose schema is up to date, and put the use cases together over it.

    Args:
        database_url: SQLAlchemy URL.
        actor: In whose name events are recorded.
        clock: Tells the time; the host's clock by default.
        opener: Opens stores; by default by the installed adapters.

    Raises:
        SettingsRefused: the URL is refused.
        DatabaseUnavailable: the database cannot be reached.
        SchemaMismatch: its schema is not this version's.
    """
    database = Database(database_url)
    try:
        require_head(database)
        yield assemble(database, actor, clock or SystemClock(), opener, trusts_no_clock=clock is None)
    finally:
        database.close()


def assemble(
    database: Database, actor: str, clock: Clock, opener: OpenStore, *, trusts_no_clock: bool = False
) -> Services:
    """Put the use cases together. A clock that is set by hand is trusted."""
    log = EventLog(database)
    projector = Projector(database, log)
    appender = Appender(log, clock, actor)
    opener = _sparing(opener, database)
    leases = Leases(database, actor)
    rescuer = Rescuer(appender, projector, opener)
    returner = OrphanReturner(database, projector, rescuer, opener)
    clock_guard = ClockGuard(database, log, clock, ClockWatch())
    planner = Planner(database, log, projector, clock, open_store)
    catching_up, rebuilder = CatchUp(database, projector), Rebuilder(database, log)
    book = ArchiveBook(database, projector, appender)
    return Services(
        database=database,
        log=log,
        projector=projector,
        recorder=Recorder(appender, projector, rescuer, returner),
        planner=planner,
        plan_keeper=PlanKeeper(database, log, projector, planner, clock, software_version()),
        leases=leases,
        heartbeats=Heartbeats(database, actor),
        sweeper=Sweeper(
            database,
            projector,
            appender,
            opener,
            leases,
            rescuer,
            software_version(),
            clock_guard if trusts_no_clock else None,
        ),
        restorer=Restorer(database, projector, appender, opener),
        reconciler=Reconciler(database, projector, appender, rescuer, opener, leases),
        adopter=Adopter(database, projector, appender, opener),
        administration=Administration(database, projector, appender, opener, clock_guard),
        limit_uses=LimitUses(database, projector, opener),
        rebuilder=rebuilder,
        auditor=Auditor(database, log),
        recomputer=Recomputer(database, log),
        explainer=Explainer(database, log),
        exporter=Exporter(database, log),
        archive_book=book,
        archiver=Archiver(book, catching_up, software_version()),
        event_remover=EventRemover(book, catching_up, rebuilder),
        event_restorer=EventRestorer(book),
        queries=Queries(database, log, catching_up),
        clock=clock,
        actor=actor,
    )


def _sparing(opener: OpenStore, database: Database) -> OpenStore:
    """Return an opener whose stores take no file of the database for a checkpoint's, by whatever name."""
    path = database.path
    if path is None:
        return opener
    files = {
        Path(f"{name}{suffix}"): f"the database's own file {name}{suffix}"
        for name in (path.absolute(), path.resolve())
        for suffix in _COMPANIONS
    }

    def open_sparing(root_uri: str) -> CheckpointStore:
        store = opener(root_uri)
        if isinstance(store, SparingStore):
            store.spare(files)
        return store

    return open_sparing

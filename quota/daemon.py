"""The daemon: sweeps, purges, reconciles and catches up at its times, until it is told to end.

APScheduler keeps its jobs in memory. What one process may do at a time is seen to by the database's lease, so that any
number of daemons, and crons beside them, do no harm.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from quota.bootstrap import Services, software_version, sweep_order
from quota.domain.events import PolicyParameters
from quota.errors import LeaseHeld, QuotaError
from quota.schedules import triggers
from quota.services.findings import Finding, ReconcileOrder
from quota.services.ids import new_id
from quota.services.sweep_order import SweepOrder
from quota.settings import Settings
from quota.telling import tell_of_finding, tell_of_reconcile, tell_of_sweep

logger = logging.getLogger(__name__)

BEAT_EVERY = timedelta(seconds=10)
_DELETING, _LISTING, _LIGHT = "deleting", "listing", "light"


class Daemon:
    """Runs the jobs over one open database.

    Args:
        services: What it runs.
        settings: When it does.
        parameters: Makes the policy's parameters for one sweep.

    Raises:
        SettingsRefused: a schedule cannot be read.
    """

    def __init__(self, services: Services, settings: Settings, parameters: Callable[[], PolicyParameters]) -> None:
        self._services = services
        self._settings = settings
        self._parameters = parameters
        self._daemon_id = new_id()
        self._stop = Event()
        self._untrusted: dict[str, str] = {}
        # Jobs that delete wait for each other here, rather than find each other's lease taken.
        self._scheduler: Any = BackgroundScheduler(
            executors={name: ThreadPoolExecutor(1) for name in (_DELETING, _LISTING, _LIGHT)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        works: dict[str, tuple[Callable[[], None], str]] = {
            "sweep": (self._sweep, _DELETING),
            "purge": (self._purge, _DELETING),
            "reconcile": (self._reconcile, _LISTING),
            "catch_up": (self._catch_up, _LIGHT),
        }
        for name, trigger in triggers(settings).items():
            self._add(name, trigger, *works[name])
        beat = IntervalTrigger(seconds=BEAT_EVERY.seconds, timezone=UTC)
        self._scheduler.add_job(self._beat, beat, id="heartbeat", executor=_LIGHT)

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; then finish the batch in hand. Call it in the process's main thread.

        A second signal ends the process at once, as a batch may wait for a server that answers no more; whatever was
        begun, the next sweep finishes.

        Raises:
            DatabaseUnavailable: the database cannot be reached at the start. Later on that is logged and tried again.
        """
        told = _ending_told()
        self._services.heartbeats.begin(self._daemon_id, software_version(), BEAT_EVERY)
        logger.info("daemon %s started on %s", self._daemon_id, self._services.database.url)
        self._scheduler.start()
        os.read(told, 1)
        self._stop.set()
        Thread(target=self._end_at_once, args=[told], daemon=True).start()
        logger.info("daemon %s ends after the batch in hand; told again, it ends at once", self._daemon_id)
        self._scheduler.shutdown(wait=True)
        try:
            self._services.heartbeats.end(self._daemon_id)
        except QuotaError as failure:
            logger.warning("the heartbeat cannot be removed: %s", failure)
        logger.info("daemon %s ended", self._daemon_id)

    def _end_at_once(self, told: int) -> None:
        (number,) = os.read(told, 1)
        logger.warning("daemon %s ends at once; the next sweep finishes what it has begun", self._daemon_id)
        os._exit(128 + number)

    def _add(self, name: str, trigger: BaseTrigger, work: Callable[[], None], executor: str) -> None:
        first = {"next_run_time": datetime.now(UTC)} if isinstance(trigger, IntervalTrigger) else {}
        self._scheduler.add_job(self._guarded, trigger, args=[name, work], id=name, executor=executor, **first)

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        """Run a job; whatever goes wrong in it, the daemon goes on, and says so."""
        if self._stop.is_set():
            return
        error: str | None = None
        try:
            work()
        except LeaseHeld as held:
            logger.debug("%s skipped: %s", name, held)
            return
        except QuotaError as failure:
            error = str(failure)
            logger.error("%s failed: %s", name, failure)  # noqa: TRY400 - it explains itself
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            logger.exception("%s failed by a fault of ours", name)
        try:
            self._services.heartbeats.note(self._daemon_id, name, error)
        except QuotaError as failure:
            logger.warning("the heartbeat cannot be written: %s", failure)

    def _beat(self) -> None:
        try:
            self._services.heartbeats.beat(self._daemon_id, BEAT_EVERY)
        except QuotaError as failure:
            logger.warning("the heartbeat cannot be written: %s", failure)

    def _order(self) -> SweepOrder:
        return sweep_order(self._settings, self._parameters())

    def _sweep(self) -> None:
        experiment_ids = self._services.queries.experiment_ids()
        report = self._services.sweeper.sweep(experiment_ids, self._order(), should_stop=self._stop.is_set)
        tell_of_sweep("sweep", report, self._services.queries)

    def _purge(self) -> None:
        experiment_ids = self._services.queries.experiment_ids()
        report = self._services.sweeper.purge(experiment_ids, self._order(), should_stop=self._stop.is_set)
        tell_of_sweep("purge", report, self._services.queries)

    def _reconcile(self) -> None:
        order = ReconcileOrder(self._settings.orphans_older_than, self._settings.lease_term, record=True)
        watcher = _Watcher(self._stop)
        report = self._services.reconciler.reconcile([], order, watcher)
        tell_of_reconcile(report, watcher.numbers)

    def _catch_up(self) -> None:
        untrusted = self._services.queries.catch_up_as_far_as_possible(should_stop=self._stop.is_set)
        for experiment_id, reason in untrusted.items():
            # It is tried every few seconds, and said once.
            level = logging.DEBUG if self._untrusted.get(experiment_id) == reason else logging.ERROR
            logger.log(level, "experiment %s is not up to date: %s", experiment_id, reason)
        self._untrusted = untrusted


def _ending_told() -> int:
    """Return a file descriptor that can be read from once SIGTERM or SIGINT has come.

    A handler in Python runs between any two steps of the main thread, and not at all while that waits for something and
    another thread was given the signal; and `Event.set` in it waits for ever where it interrupts `Event.wait`.
    """
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return told


class _Watcher:
    """Counts what reconciling finds, until the daemon ends."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self.numbers: Counter[str] = Counter()

    def listed(self) -> None:
        """Nobody looks."""

    def found(self, finding: Finding) -> None:
        """Count it, and say what a checkpoint is about."""
        self.numbers[finding.kind] += 1
        if finding.is_recorded:
            tell_of_finding(finding)

    def should_stop(self) -> bool:
        """End with the daemon."""
        return self._stop.is_set()

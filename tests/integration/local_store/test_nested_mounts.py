"""What lies on a disk that is mounted below a store's root: never evicted, and not lost for ever while it is away."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from integration.test_reconcile import LOOK, RECORD, Seen
from quota.bootstrap import Services, open_store
from quota.client import ExperimentHandle
from quota.domain.events import ExperimentRegistered, LimitSet, PolicyParameters
from quota.services.sweep_order import SweepOrder
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def services(database_url: str) -> Iterator[Services]:
    create_schema(database_url)
    with services_over(database_url, HandClock(), open_store) as ready:
        yield ready


@pytest.fixture
def point(services: Services, tmp_path: Path) -> Path:
    """A bare mount point below a store's root, where a paused trial has saved a checkpoint while its disk was there."""
    root, disk = tmp_path / "root", tmp_path / "disk"
    (root / "disk").mkdir(parents=True)
    services.administration.add_store(root.as_uri())
    (disk / "trial-1").mkdir(parents=True)
    (disk / "trial-1" / "weights").write_text("weights")
    handle = ExperimentHandle(services, "tuner", "x")
    handle.record(ExperimentRegistered(mode="min", rung_levels=(1,), promotion_quantiles=(0.5,), max_resource=9))
    handle.trial_started("1")
    handle.checkpoint_saved("1", location=root / "disk" / "trial-1", size_bytes=7, resource=1)
    handle.trial_paused("1", level=1, metric=1.0)
    return root / "disk"


def put_back(point: Path, tmp_path: Path, mount: Callable[..., None]) -> None:
    """Mount the disk; where that is not permitted, let the point look mounted, with all that the disk holds."""
    mount(point, "--bind", str(tmp_path / "disk"))
    if not any(point.iterdir()):
        shutil.copytree(tmp_path / "disk", point, dirs_exist_ok=True)


def kinds(services: Services, *, record: bool = True) -> list[tuple[str, str, bool]]:
    seen = Seen()
    services.reconciler.reconcile([], RECORD if record else LOOK, seen)
    return [(one.kind, one.uri.rsplit("/", 1)[1], one.is_recorded) for one in seen.findings]


def test_what_was_missing_with_its_disk_is_found_with_it(
    services: Services, point: Path, tmp_path: Path, mount: Callable[..., None]
) -> None:
    assert kinds(services) == [("missing", "trial-1", True)]
    put_back(point, tmp_path, mount)
    assert kinds(services, record=False) == [("not_looked_into", "disk", False), ("turned_up", "trial-1", False)]
    assert kinds(services) == [("not_looked_into", "disk", False), ("turned_up", "trial-1", True)]
    loadable = ExperimentHandle(services, "tuner", "x").resume_trial("1", level=1)
    assert loadable is not None
    assert (loadable.path / "weights").read_text() == "weights"


@pytest.mark.parametrize("change", ["another size", "later", "gone"])
def test_what_came_back_changed_is_not_the_one_that_was_missing(
    services: Services, point: Path, tmp_path: Path, mount: Callable[..., None], change: str
) -> None:
    assert kinds(services) == [("missing", "trial-1", True)]
    weights = tmp_path / "disk" / "trial-1" / "weights"
    if change == "another size":
        weights.write_text("other")
    elif change == "gone":
        shutil.rmtree(weights.parent)
    else:
        later = weights.stat().st_mtime + timedelta(hours=1).total_seconds()
        os.utime(weights, (later, later))
    put_back(point, tmp_path, mount)
    turned_up = [] if change == "gone" else [("turned_up", "trial-1", False)]
    assert kinds(services) == [("not_looked_into", "disk", False), *turned_up]
    assert ExperimentHandle(services, "tuner", "x").resume_trial("1", level=1) is None


def test_nothing_that_is_mounted_below_a_root_is_evicted(
    services: Services, point: Path, tmp_path: Path, mount: Callable[..., None]
) -> None:
    put_back(point, tmp_path, mount)
    services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=1, low=1))
    ExperimentHandle(services, "tuner", "x").trial_started("2")
    report = services.sweeper.sweep(["x"], SweepOrder(PolicyParameters(policy="by_level"), timedelta()))
    assert report.tally.evicted == 0
    assert (point / "trial-1" / "weights").read_text() == "weights"

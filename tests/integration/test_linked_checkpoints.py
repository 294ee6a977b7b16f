"""A checkpoint that others of its trial link into is not taken away from under them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from quota.bootstrap import Services, open_store
from quota.client import ExperimentHandle
from quota.domain.events import ExperimentRegistered, LimitSet, PolicyParameters
from quota.errors import PathRefused, StoreError
from quota.services.sweep_order import SweepOrder
from quota_local import open_store as open_local_store
from quota_local.store import LocalStore
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from quota.services.sweep_order import SweepReport

AT_ONCE = SweepOrder(PolicyParameters(policy="by_level"), timedelta())


@pytest.fixture
def services(database_url: str) -> Iterator[Services]:
    create_schema(database_url)
    with services_over(database_url, HandClock(), open_store) as ready:
        yield ready


@pytest.fixture
def root(services: Services, tmp_path: Path) -> Path:
    """A store in which paused trial `1` has saved an older checkpoint `old`."""
    place = tmp_path / "disk"
    place.mkdir()
    services.administration.add_store(place.as_uri())
    services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=1, low=1))
    handle = ExperimentHandle(services, "tuner", "x")
    handle.record(ExperimentRegistered(mode="min", rung_levels=(1, 3), promotion_quantiles=(0.5, 0.5), max_resource=9))
    handle.trial_started("1")
    save(handle, place / "1" / "old")
    return place


def save(handle: ExperimentHandle, place: Path, links: dict[str, str] | None = None, resource: int = 1) -> None:
    """Write weights and links, and say so."""
    place.mkdir(parents=True)
    (place / "weights").write_text(place.name)
    for name, target in (links or {}).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).symlink_to(target)
    handle.checkpoint_saved("1", location=place, size_bytes=3, resource=resource)


def sweep_with(services: Services, place: Path, links: dict[str, str]) -> SweepReport:
    """Save a newer checkpoint with links, pause the trial, and sweep."""
    handle = ExperimentHandle(services, "tuner", "x")
    save(handle, place, links, resource=3)
    handle.trial_paused("1", level=3, metric=1.0)
    return services.sweeper.sweep(["x"], AT_ONCE)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("backbone", "../old/weights"),
        ("deep/backbone", "../../old/weights"),
        ("whole", "../old"),
        ("above", "../../1"),
        ("of a missing file", "../old/later"),
        ("with % and é", "../old/weights"),
    ],
)
def test_what_a_newer_one_links_into_is_kept(services: Services, root: Path, name: str, target: str) -> None:
    report = sweep_with(services, root / "1" / "new", {name: target})
    # The newer one would be worth nothing without the older one, and from the trash it could not guard it.
    assert (root / "1" / "old" / "weights").read_text() == "old"
    assert (root / "1" / "new" / "weights").read_text() == "new"
    assert (report.tally.decided, report.held_back) == (0, {"x": {"linked": 2}})


def test_links_follow_one_another(services: Services, root: Path) -> None:
    handle = ExperimentHandle(services, "tuner", "x")
    save(handle, root / "1" / "middle", {"base": "../old/weights"}, resource=2)
    save(handle, root / "1" / "new", {"base": "../middle/base"}, resource=3)
    report = services.sweeper.sweep(["x"], AT_ONCE)
    assert (report.tally.decided, report.held_back["x"]) == (0, {"linked": 2, "running": 1})
    assert (root / "1" / "new" / "base").read_text() == "old"


@pytest.mark.parametrize("target", ["..", "../..", "../../..", "weights", "/nowhere", "../other/weights", "self"])
def test_what_leads_elsewhere_keeps_nothing(services: Services, root: Path, target: str) -> None:
    place = root / "new" if target in {"..", "../..", "../../.."} else root / "1" / "new"
    report = sweep_with(services, place, {"self": target})
    assert (report.tally.evicted, report.tally.failed) == (1, 0)
    assert not (root / "1" / "old").exists()


def test_what_is_linked_to_after_its_claim_is_kept(services: Services, root: Path) -> None:
    handle = ExperimentHandle(services, "tuner", "x")
    save(handle, root / "1" / "middle", resource=2)
    save(handle, root / "1" / "new", resource=3)
    with services.sweeper.running(AT_ONCE) as run:
        (plan,) = run.plan("x")
        settle = run.settler.settle_claims

        def link_then_settle(*arguments: object) -> None:
            (root / "1" / "new" / "base").symlink_to("../middle/weights")
            settle(*arguments)  # type: ignore[arg-type] - as they came

        run.settler.settle_claims = link_then_settle  # type: ignore[method-assign]
        run.carry_out(plan)
    assert not (root / "1" / "old").exists()
    assert (root / "1" / "new" / "base").read_text() == "middle"


@pytest.mark.parametrize("error", [StoreError("out of order"), PathRefused("checkpoint", "uri", "new", "a mount")])
def test_what_cannot_be_looked_at_may_link_into_its_trials_others(
    services: Services, root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def links(_: LocalStore, uri: str) -> list[str]:
        if uri == (root / "1" / "new").as_uri():
            raise error
        return []

    handle = ExperimentHandle(services, "tuner", "x")
    save(handle, root / "1" / "new", resource=3)
    handle.trial_paused("1", level=3, metric=1.0)
    monkeypatch.setattr(LocalStore, "links", links)
    handle.checkpoint_pinned("1", location=root / "1" / "new")
    report = services.sweeper.sweep(["x"], AT_ONCE)
    assert (report.tally.decided, report.tally.errors, report.held_back) == (0, [], {"x": {"linked": 1, "pinned": 1}})
    assert (root / "1" / "old" / "weights").read_text() == "old"


def test_links_are_told_by_one_name_each(root: Path) -> None:
    (root / "latest").symlink_to("1")
    (root / "1" / "old" / "in").symlink_to("../../latest/old/weights")
    (root / "1" / "old" / "out").symlink_to("/nowhere/at all")
    (root / "1" / "old" / "round").symlink_to("round")
    found = open_local_store(root.as_uri()).links((root / "1" / "old").as_uri())
    links = {(root / "latest").as_uri(), *((root / "1" / "old" / name).as_uri() for name in ("in", "out", "round"))}
    assert found == links | {(root / "1" / "old" / "weights").as_uri(), "file:///nowhere/at%20all"}

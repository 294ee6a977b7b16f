"""What a plan comes to, for whoever reads it before trusting it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import quota
from acceptance.test_tables import table

if TYPE_CHECKING:
    from acceptance.commands import Run


@pytest.fixture
def disks(run: Run, tmp_path: Path) -> Path:
    """Two experiments, each with a paused trial on either of two disks, and one that was stopped; each may keep one."""
    with quota.connect("sqlite:///quota.db") as db:
        for name in ("bert", "vit"):
            experiment = db.register_experiment(
                name, mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=9
            )
            for number, disk in enumerate(("fast", "large", "large"), start=1):
                place = tmp_path / disk / f"{name}-{number}"
                place.mkdir(parents=True)
                (place / "weights").write_bytes(b"w" * 100)
                experiment.trial_started(str(number))
                experiment.trial_reported(str(number), resource=1, metric=-float(number))
                experiment.checkpoint_saved(str(number), location=place, size_bytes=100, resource=1)
                experiment.trial_paused(str(number), level=1, metric=-float(number))
            experiment.trial_stopped("2")
    for disk in ("fast", "large"):
        assert run("store", "add", str(tmp_path / disk)).code == 0
    assert run("limit", "set", "--checkpoints", "1").code == 0
    assert run("limit", "set", "--bytes", "200", "--scope", "deployment").code == 0
    return tmp_path


def test_a_plan_adds_up_by_experiment_reason_and_store(run: Run, disks: Path) -> None:
    planned = run("plan", "--policy", "by_level", "--json").data
    fast, large = ((disks / name).as_uri() for name in ("fast", "large"))
    alike = {"evictions": 1, "size_bytes": 100}
    assert planned["totals"] == [
        {"experiment_id": name, "reason": reason, "store_uri": store, "cost_seconds": cost, **alike}
        for name in ("bert", "vit")
        for reason, store, cost in (("paused", fast, None), ("stopped", large, 0.0))
    ]
    assert [(one["experiment_id"], len(one["evictions"])) for one in planned["plans"]] == [
        ("bert", 1),
        ("vit", 1),
        (None, 2),
    ]
    assert run("sweep", "--dry-run", "--policy", "by_level", "--json").data == planned
    paused = [one for one in run("plan", "--json").data["totals"] if one["reason"] == "paused"]
    costs = [one["cost_seconds"] for one in run("plan", "--json").data["plans"][0]["evictions"]]
    assert [one["cost_seconds"] for one in paused[:1]] == costs


def test_the_sums_and_what_each_eviction_costs_fit_into_a_usual_terminal(run: Run, disks: Path) -> None:
    columns, said = table(disks, "plan")
    assert {"experiment", "trial", "reason", "seconds lost", "uri"} <= set(columns)
    assert "In all: 4 checkpoints, 400 B\n" in said
    assert f"store: below {disks.as_uri()}/\n" in said
    assert [line.split()[:6] for line in said.splitlines() if line.startswith((" bert ", " vit "))][:4] == [
        [name, reason, store, "1", "100", "B"]
        for name in ("bert", "vit")
        for reason, store in (("paused", "fast"), ("stopped", "large"))
    ]
    assert "In all" in run("plan").out

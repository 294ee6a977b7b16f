"""An audit recomputes each decision from the events before it, and names the inputs that were changed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from integration.test_recomputing import tell
from quota.domain.events import EvictionDecided, LimitSet, PolicyParameters
from quota.domain.recomputation import Mismatch
from quota.errors import NotFound
from quota.services.stream_audit import AuditOrder, StreamAudit, audit_stream
from quota.services.sweep_order import SweepOrder
from support import create_schema, rehash, tamper
from sweeps import DAY, Sweeps, sweeps_over

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPECTED_COST = PolicyParameters(policy="expected-cost")


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as found:
        tell(found)
        found.sweep(SweepOrder(EXPECTED_COST, DAY))
        found.wait(timedelta(minutes=2))
        limit = LimitSet(scope="experiment:x", measure="bytes", high=1, low=1)
        found.services.administration.set_limit(limit)
        found.sweep(SweepOrder(EXPECTED_COST, DAY))
        yield found


def audited(sweeps: Sweeps, order: AuditOrder | None = None) -> StreamAudit:
    services = sweeps.services
    (head,) = [one for one in services.auditor.heads() if one.experiment_id == "x"]
    read: list[int] = []
    found = audit_stream(services.auditor, services.recomputer, head, order or AuditOrder(), read.append)
    if found.fault is None:
        assert sum(read) == head.position * (1 if order is not None and not order.with_decisions else 2)
    return found


def rewrite(sweeps: Sweeps, position: int, name: str, value: object) -> None:
    """Change one input of a decision, and the chain after it."""
    with sweeps.services.database.read() as connection:
        query = text("SELECT CAST(data AS TEXT) FROM events WHERE experiment_id = 'x' AND position = :position")
        data = json.loads(connection.execute(query, {"position": position}).scalar_one())
    changed = json.dumps(data | {name: value}).replace("'", "''").replace(":", r"\:")
    where = f"experiment_id = 'x' AND position = {position}"
    tamper(sweeps.services, [f"UPDATE events SET data = '{changed}' WHERE {where}"])
    rehash(sweeps.services, "x")


def paused(sweeps: Sweeps) -> int:
    """Return the position of a decision about a paused trial."""
    with sweeps.services.database.read() as connection:
        query = text("SELECT min(decided_position) FROM decisions WHERE reason = 'paused'")
        position: int = connection.execute(query).scalar_one()
    return position


def test_all_decisions_recompute_under_own_limits_of_both_measures(sweeps: Sweeps) -> None:
    found = audited(sweeps)
    with sweeps.services.database.read() as connection:
        query = text("SELECT limit_measure, count(*) FROM decisions GROUP BY 1")
        by_measure = {measure: number for measure, number in connection.execute(query)}  # noqa: C416
    assert set(by_measure) == {"checkpoints", "bytes"}
    assert (found.fault, found.decisions, found.mismatched) == (None, sum(by_measure.values()), [])
    assert audited(sweeps, AuditOrder(with_decisions=False)).decisions == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 99), ("score", 0.125), ("reason", "stopped"), ("usage", 1), ("time_ratio", 2.0), ("policy_version", 7)],
)
def test_an_input_that_was_changed_is_named_though_the_chain_was_made_anew(
    sweeps: Sweeps, name: str, value: object
) -> None:
    position = paused(sweeps)
    rewrite(sweeps, position, name, value)
    found = audited(sweeps)
    (one,) = found.mismatched
    assert (found.fault, one.position, one.is_rounding) == (None, position, False)
    assert [(each.name, each.logged) for each in one.mismatches] == [(name, value)]


def test_an_explanation_names_what_was_changed(sweeps: Sweeps) -> None:
    explainer, position = sweeps.services.explainer, paused(sweeps)
    (decision_id,) = [
        one.payload.decision_id
        for one in sweeps.events()
        if one.position == position and isinstance(one.payload, EvictionDecided)
    ]
    found = explainer.explain(decision_id)
    assert (found.event.position, found.mismatches) == (position, ())
    assert found.decided.uri not in {one.uri for one in found.kept}
    assert found.decided.runner_up_uri == found.kept[0].uri
    assert {one.trial_id: one.rank for one in found.rung}[found.decided.trial_id] == found.decided.rank
    assert found.later[0].payload.TYPE == "checkpoint_trashed"
    rewrite(sweeps, position, "rank", 99)
    assert [one.name for one in explainer.explain(decision_id).mismatches or ()] == ["rank"]


@pytest.mark.parametrize("decision_id", ["", "nope", "01990000-0000-7000-8000-000000000001", "\x1b[31m"])
def test_what_is_no_decision_is_not_explained(sweeps: Sweeps, decision_id: str) -> None:
    with pytest.raises(NotFound, match="`ckpt-quota evictions` lists them"):
        sweeps.services.explainer.explain(decision_id)


@pytest.mark.parametrize("later", [True, False])
def test_a_decision_cannot_rest_on_what_comes_after_it_nor_on_nothing(sweeps: Sweeps, *, later: bool) -> None:
    position = paused(sweeps)
    state_position = position if later else 0
    rewrite(sweeps, position, "state_position", state_position)
    (one,) = audited(sweeps).mismatched
    assert one.mismatches == (Mismatch(name="state_position", logged=state_position, recomputed=None),)
    found = sweeps.services.explainer.explain(one.decision_id)
    assert found.mismatches == one.mismatches


def test_the_last_digits_are_told_apart_from_all_else(sweeps: Sweeps) -> None:
    position = paused(sweeps)
    with sweeps.services.database.read() as connection:
        query = text("SELECT score FROM decisions WHERE decided_position = :position")
        score: float = connection.execute(query, {"position": position}).scalar_one()
    rewrite(sweeps, position, "score", score * (1 + 1e-14))
    (one,) = audited(sweeps).mismatched
    assert one.is_rounding


def test_only_a_period_is_recomputed(sweeps: Sweeps) -> None:
    every = sweeps.events()
    middle = max(event.recorded_at for event in every if event.payload.TYPE == "eviction_decided")
    before, after = audited(sweeps, AuditOrder(until=middle)), audited(sweeps, AuditOrder(since=middle))
    assert before.decisions > 0
    assert after.decisions > 0
    assert before.decisions + after.decisions == audited(sweeps).decisions


def test_where_the_chain_does_not_hold_nothing_is_recomputed(sweeps: Sweeps) -> None:
    tamper(sweeps.services, ["UPDATE events SET actor = 'nobody' WHERE experiment_id = 'x' AND position = 2"])
    found = audited(sweeps)
    assert (found.fault is not None and found.fault.position, found.decisions) == (2, 0)

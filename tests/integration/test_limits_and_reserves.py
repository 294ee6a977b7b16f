"""Limits, reserves and pins by scope outlive a process, are rebuilt from the log, and are refused whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, update

from quota.domain.events import LimitSet, ReserveSet
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import BadInput, IdentityRefused, NotFound, NumberRefused, StateRefused
from quota.projections.tables import limits, reserves, scope_pins
from quota.testing.memory_store import MemoryStore
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from quota.bootstrap import Services
    from quota.domain.deployment import DeploymentState

NLP, STORE = "label:team=nlp", "store:memory://store/"


@pytest.fixture
def services(database_url: str) -> Iterator[Services]:
    create_schema(database_url)
    with services_over(database_url, HandClock(), MemoryStore) as ready:
        yield ready


def looked_at_anew(services: Services) -> DeploymentState:
    """Return the deployment's state as another process finds it."""
    with services_over(services.database.url, HandClock(), MemoryStore) as others:
        return others.administration.look()


def set_all(services: Services) -> None:
    administration = services.administration
    administration.set_limit(LimitSet(scope=NLP, measure="bytes", high=2**62, low=1))
    administration.set_limit(LimitSet(scope=NLP, measure="checkpoints", high=7, low=6))
    administration.set_reserve(ReserveSet(scope=NLP, measure="checkpoints", amount=3))
    administration.set_reserve(ReserveSet(scope="experiment:a", measure="bytes", amount=2**63 - 1))
    administration.pin_scope(STORE)
    administration.pin_scope("experiment:a")


def differences(services: Services) -> list[object]:
    return list(services.rebuilder.verify(DEPLOYMENT_STREAM, lambda _: None))


def test_what_is_set_is_there_for_everybody_and_gone_once_removed(services: Services) -> None:
    set_all(services)
    state = looked_at_anew(services)
    assert {key: (one.high, one.low) for key, one in state.limits.items()} == {
        (NLP, "bytes"): (2**62, 1),
        (NLP, "checkpoints"): (7, 6),
    }
    assert {key: one.amount for key, one in state.reserves.items()} == {
        (NLP, "checkpoints"): 3,
        ("experiment:a", "bytes"): 2**63 - 1,
    }
    assert set(state.pins) == {STORE, "experiment:a"}
    assert differences(services) == []

    services.administration.remove_limit(NLP, "checkpoints")
    services.administration.remove_reserve(NLP, "checkpoints")
    services.administration.unpin_scope(STORE)
    state = looked_at_anew(services)
    assert list(state.limits) == [(NLP, "bytes")]
    assert list(state.reserves) == [("experiment:a", "bytes")]
    assert list(state.pins) == ["experiment:a"]
    assert differences(services) == []


def test_what_is_set_again_is_replaced(services: Services) -> None:
    set_all(services)
    services.administration.set_limit(LimitSet(scope=NLP, measure="bytes", high=20, low=10))
    services.administration.set_reserve(ReserveSet(scope=NLP, measure="checkpoints", amount=4))
    state = looked_at_anew(services)
    assert state.limits[NLP, "bytes"].numbers == (NLP, "bytes", 20, 10)
    assert state.reserves[NLP, "checkpoints"].amount == 4
    assert len(state.limits) == len(state.reserves) == 2


def test_rows_that_were_changed_are_seen_and_made_anew(services: Services) -> None:
    set_all(services)
    with services.database.write() as connection:
        connection.execute(update(reserves).where(reserves.c.measure == "bytes").values(amount=1))
        connection.execute(update(scope_pins).where(scope_pins.c.scope == STORE).values(actor="somebody"))
    assert len(differences(services)) == 2
    services.rebuilder.rebuild(DEPLOYMENT_STREAM, lambda _: None)
    assert differences(services) == []
    with services.database.read() as connection:
        counts = [connection.execute(select(func.count()).select_from(table)).scalar() for table in (limits, reserves)]
    assert counts == [2, 2]


REFUSED: list[tuple[str, Callable[[Services], object], type[BadInput], str]] = [
    (
        "bytes of nothing",
        lambda one: one.administration.set_limit(LimitSet(scope=NLP, measure="bytes", high=0, low=0)),
        NumberRefused,
        "limit of label:team=nlp: field `high` is 0: expected `int` >= 1",
    ),
    (
        "more than a database holds",
        lambda one: one.administration.set_limit(LimitSet(scope=NLP, measure="bytes", high=2**63, low=1)),
        NumberRefused,
        "field `high` is 9223372036854775808: ",
    ),
    (
        "low above high",
        lambda one: one.administration.set_limit(LimitSet(scope=NLP, measure="bytes", high=5, low=6)),
        NumberRefused,
        "field `low` is 6: the low watermark must not be above the high one, which is 5",
    ),
    (
        "less left free than has to stay free",
        lambda one: one.administration.set_limit(LimitSet(scope=STORE, measure="free_bytes", high=5, low=4)),
        NumberRefused,
        "field `low` is 4: what a sweep is to leave free must not be below what has to stay free, which is 5",
    ),
    (
        "free space of a team",
        lambda one: one.administration.set_limit(LimitSet(scope=NLP, measure="free_percent", high=5, low=5)),
        IdentityRefused,
        "field `scope` is 'label:team=nlp': a limit on free space is for `store:<uri>`",
    ),
    (
        "free space of no store",
        lambda one: one.administration.set_limit(LimitSet(scope=STORE, measure="free_percent", high=5, low=5)),
        StateRefused,
        "this place is no store and lies in none",
    ),
    (
        "a reserve of nothing",
        lambda one: one.administration.set_reserve(ReserveSet(scope=NLP, measure="bytes", amount=0)),
        NumberRefused,
        "reserve of label:team=nlp: field `amount` is 0: expected `int` >= 1",
    ),
    (
        "a reserve of all",
        lambda one: one.administration.set_reserve(ReserveSet(scope="deployment", measure="bytes", amount=1)),
        IdentityRefused,
        "a reserve is for `experiment:<id>` or `label:<key>=<value>`",
    ),
    (
        "a pin of nothing known",
        lambda one: one.administration.pin_scope("label:\u202e=x"),
        IdentityRefused,
        "the label's key: character 1 (U+202E) is an invisible or bidirectional formatting character",
    ),
]


@pytest.mark.parametrize(("_name", "change", "error", "said"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_is_refused_changes_nothing(
    services: Services, _name: str, change: Callable[[Services], object], error: type[BadInput], said: str
) -> None:
    with pytest.raises(error) as caught:
        change(services)
    assert said in str(caught.value)
    state = looked_at_anew(services)
    assert (state.position, state.limits, state.reserves, state.pins) == (0, {}, {}, {})


def test_what_is_not_there_cannot_be_removed(services: Services) -> None:
    set_all(services)
    before = looked_at_anew(services).position
    for remove in (
        lambda: services.administration.remove_limit("deployment", "bytes"),
        lambda: services.administration.remove_limit("experiment:a"),
        lambda: services.administration.remove_reserve(NLP, "bytes"),
        lambda: services.administration.unpin_scope("deployment"),
    ):
        with pytest.raises(NotFound, match=r"there is none.*; `ckpt-quota (?:limit|reserve|pin) -?-?list` lists them"):
            remove()
    assert looked_at_anew(services).position == before


def test_a_bucket_has_no_free_space_to_limit(services: Services) -> None:
    services.administration.add_store("memory://store/")
    with pytest.raises(StateRefused, match="a bucket has no end, so nothing has to stay free there"):
        services.administration.set_limit(LimitSet(scope=STORE, measure="free_percent", high=5, low=5))
    assert looked_at_anew(services).limits == {}

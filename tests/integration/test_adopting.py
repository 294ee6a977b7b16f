"""What lies in a store without an event becomes a checkpoint where that contradicts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quota.domain.events import CheckpointMissing, TrialPaused
from quota.errors import BadInput, CheckpointGone, NumberRefused, PathRefused, QuotaError, StateRefused, StoreError
from support import create_schema
from sweeps import AT_ONCE, SIZE, Sweeps, sweeps_over, uri_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ORPHAN = uri_of("2", "-orphan")


@pytest.fixture
def sweeps(database_url: str) -> Iterator[Sweeps]:
    create_schema(database_url)
    with sweeps_over(database_url) as ready:
        ready.prepare(3, high=9, low=9)
        ready.store.add_checkpoint(ORPHAN, {"weights": b"o" * 25})
        yield ready


def adopt(sweeps: Sweeps, *, trial_id: str = "2", uri: str = ORPHAN, resource: int = 1) -> None:
    sweeps.services.adopter.adopt("x", trial_id, uri, resource)


def test_what_was_adopted_is_resumed_from(sweeps: Sweeps) -> None:
    adopt(sweeps, resource=2)
    assert sweeps.state().usage.stored_bytes == 3 * SIZE + 25
    told = sweeps.resume("2").checkpoint
    assert told is not None
    assert (told.uri, told.resource) == (ORPHAN, 2)
    sweeps.check_settled()


def test_what_was_adopted_is_evicted_like_any_other(sweeps: Sweeps) -> None:
    adopt(sweeps)
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(AT_ONCE)
    assert sweeps.checkpoint("2").state == "purged"
    assert sweeps.checkpoint("2", "-orphan").state == "stored"
    sweeps.limit("experiments", 1, 1)
    sweeps.sweep(AT_ONCE)
    assert sweeps.checkpoint("2", "-orphan").state == "purged"
    sweeps.check_settled()


def test_what_was_missing_can_be_adopted_as_something_else(sweeps: Sweeps) -> None:
    sweeps.send(CheckpointMissing(trial_id="2", uri=uri_of("2")))
    adopt(sweeps, uri=uri_of("2"), resource=2)
    assert sweeps.checkpoint("2").resource == 2
    assert sweeps.state().usage.stored_checkpoints == 3


@pytest.mark.parametrize(
    ("faults", "kind", "message"),
    [
        ({"trial_id": "9"}, BadInput, "no such trial"),
        ({"resource": -1}, NumberRefused, "resource"),
        ({"uri": uri_of("2")}, StateRefused, "the log knows it already"),
        ({"uri": uri_of("2", "/step")}, PathRefused, "or overlaps it"),
        ({"uri": uri_of("nothing")}, CheckpointGone, "nothing at this location"),
        ({"uri": "memory://elsewhere/1/"}, StoreError, "no store holds it"),
        ({"uri": "memory://store/../1/"}, PathRefused, "not followed"),
    ],
)
def test_what_contradicts_the_log_is_refused(
    sweeps: Sweeps, faults: dict[str, object], kind: type[QuotaError], message: str
) -> None:
    sweeps.store.add_checkpoint(uri_of("2", "/step"), {"weights": b"o"})
    before = len(sweeps.events())
    with pytest.raises(kind, match=message):
        adopt(sweeps, **faults)  # type: ignore[arg-type]
    assert len(sweeps.events()) == before


def test_the_place_of_another_trial_is_refused_though_nothing_of_it_is_left(sweeps: Sweeps) -> None:
    sweeps.limit("experiments", 2, 2)
    sweeps.sweep(AT_ONCE)
    for inner in ("", "/step"):
        sweeps.store.add_checkpoint(uri_of("3", inner), {"weights": b"o"})
        with pytest.raises(StateRefused, match=r"it overlaps|belongs to trial 3"):
            adopt(sweeps, uri=uri_of("3", inner))
    adopt(sweeps, trial_id="3", uri=uri_of("3"))


def test_what_is_older_than_its_trial_s_latest_is_refused(sweeps: Sweeps) -> None:
    sweeps.resume("2")
    sweeps.save("2", "-later", resource=3)
    sweeps.send(TrialPaused(trial_id="2", level=3, metric=0.5))
    with pytest.raises(StateRefused, match="its trial has a later checkpoint, of resource 3"):
        adopt(sweeps, resource=2)
    adopt(sweeps, resource=3)


def test_another_name_of_what_the_log_knows_is_refused(sweeps: Sweeps) -> None:
    sweeps.store.add_name(uri_of("1"), ORPHAN)
    with pytest.raises(PathRefused, match="it is the same place as"):
        adopt(sweeps)

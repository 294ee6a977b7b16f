"""The views of limits count what the limits' definitions say, by every scope, and alike on both databases."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from integration.views.by_hand import REGISTERED, Row, ask, decided, deploy, saved, tell
from quota.domain.events import (
    CheckpointTrashed,
    Event,
    LimitMeasure,
    LimitSet,
    ScopePinned,
    TrialPaused,
    TrialStarted,
    TrialStopped,
)
from quota.domain.experiment import ExperimentState
from quota.domain.limits import EffectiveLimit, effective_limits
from quota.domain.scopes import Scope

if TYPE_CHECKING:
    from quota.bootstrap import Services

LABELS = {
    "bert": {"team": "nlp", "keep": "no"},
    "gpt": {"team": "nlp", "odd=key": "x", "quoted": "'\"\\"},
    "resnet": {"team": "vision", "keep": "a=b"},
    "vit": {},
}
SCOPES = [
    "deployment",
    "experiments",
    "experiment:bert",
    "experiment:gone",
    "label:team=nlp",
    "label:team=vision",
    "label:keep=a=b",
    "label:odd=key=x",
    "label:quoted='\"\\",
    "store:memory://store/",
    "store:memory://store/a/",
    "store:memory://store/b/1/",
]


def of(experiment_id: str, trial_id: str, place: str, size_bytes: int) -> list[Event]:
    uri = f"memory://store/{place}/{experiment_id}-{trial_id}/"
    return [TrialStarted(trial_id=trial_id), saved(trial_id, uri, size_bytes=size_bytes)]


def make(services: Services, seed: int) -> None:
    """Fill a database with all that can become of a checkpoint."""
    rng = random.Random(seed)  # noqa: S311 - what is drawn again from a seed is the point
    decisions = iter(range(1, 1_000))
    for experiment_id, labels in LABELS.items():
        tell(services, experiment_id, msgspec.structs.replace(REGISTERED, labels=labels))
        for number in range(rng.randint(1, 6)):
            trial_id = str(number)
            place = rng.choice(["a", "ab", "b/1", "b/2", "c"])
            tell(services, experiment_id, *of(experiment_id, trial_id, place, rng.randint(1, 100)))
            ending = rng.choice(["running", "paused", "stopped", "claimed", "trashed", "replaced"])
            if ending != "running":
                tell(services, experiment_id, TrialPaused(trial_id=trial_id, level=1, metric=0.5))
            if ending == "stopped":
                tell(services, experiment_id, TrialStopped(trial_id=trial_id))
            if ending in {"claimed", "trashed", "replaced"}:
                evict(services, experiment_id, trial_id, f"01990000-0000-7000-8000-{next(decisions):012}", ending)


def evict(services: Services, experiment_id: str, trial_id: str, decision_id: str, ending: str) -> None:
    state = look(services)[experiment_id]
    (uri,) = state.trial_uris[trial_id]
    claimed = decided(decision_id, trial_id, state.checkpoints[uri].saved_position, reason="paused", place=1)
    tell(services, experiment_id, msgspec.structs.replace(claimed, uri=uri))
    if ending != "claimed":
        tell(services, experiment_id, CheckpointTrashed(decision_id=decision_id, trial_id=trial_id))
    if ending == "replaced":
        tell(services, experiment_id, saved(trial_id, uri, size_bytes=7))


def look(services: Services) -> dict[str, ExperimentState]:
    with services.database.read() as connection:
        return {one: services.projector.look(connection, one) for one in LABELS}


def counted(state: ExperimentState, limit: EffectiveLimit) -> int | None:
    """Return what of an experiment counts; None where it has nothing to do with the limit."""
    if limit.scope.kind != "store" and not limit.scope.contains(state.experiment_id, state.registered.labels, None):
        return None
    if limit.limit.measure == "checkpoints" and limit.scope.kind != "store":
        return state.usage.held_checkpoints
    at_place = [one for one in state.checkpoints.values() if one.state in {"stored", "claimed"}]
    trash = [one.decided for one in state.decisions.values() if one.outcome == "trashed"]
    held = [
        (one.uri, one.size_bytes, one.state == "stored" and not state.trials[one.trial_id].has_ended)
        for one in at_place
    ]
    held += [(one.uri, one.size_bytes, False) for one in trash]
    inside = [one for one in held if limit.scope.contains(state.experiment_id, state.registered.labels, one[0])]
    if limit.scope.kind == "store" and not inside:
        return None
    return sum(counts if limit.limit.measure == "checkpoints" else size for _, size, counts in inside)


def test_limits_count_what_their_definitions_say(services: Services) -> None:
    measures: list[LimitMeasure] = ["checkpoints", "bytes"]
    for scope in SCOPES:
        deploy(services, *(LimitSet(scope=scope, measure=measure, high=5, low=4) for measure in measures))
    deploy(services, LimitSet(scope="store:memory://store/", measure="free_percent", high=30, low=40))
    for seed in range(4):
        if seed == 0:
            make(services, seed)
        else:
            more(services, seed)
        compare(services)


def more(services: Services, seed: int) -> None:
    """Let some more trials come."""
    rng = random.Random(seed)  # noqa: S311 - what is drawn again from a seed is the point
    for experiment_id in LABELS:
        place = rng.choice(["a", "b/1", "d"])
        tell(services, experiment_id, *of(experiment_id, f"more-{seed}", place, rng.randint(1, 100)))


def compare(services: Services) -> None:
    states = look(services)
    limits = effective_limits(services.administration.look().limits.values(), states)
    shares: list[Row] = []
    sums: list[Row] = []
    for limit in limits:
        of_limit = {one: used for one, state in states.items() if (used := counted(state, limit)) is not None}
        named = {"scope": limit.scope.text, "measure": limit.limit.measure, "set_for": limit.limit.scope}
        shares += [named | {"experiment_id": one, "used": used} for one, used in of_limit.items()]
        used = sum(of_limit.values())
        is_exceeded = None if limit.limit.is_of_free_space else used > limit.limit.high
        sums.append(named | {"used": used, "exceeded": is_exceeded, "experiments": len(of_limit)})

    def key(row: Row) -> tuple[str, ...]:
        return row["scope"], row["measure"], row.get("experiment_id", "")

    found = ask(services, "SELECT * FROM limit_shares")
    assert sorted(found, key=key) == sorted(shares, key=key)
    columns = "scope, measure, set_for, used, exceeded, experiments"
    found = ask(services, f"SELECT {columns} FROM limit_usage WHERE scope <> 'experiments'")
    assert sorted(found, key=key) == sorted(sums, key=key)


def test_a_limit_that_holds_for_nobody_yet_is_shown(services: Services) -> None:
    deploy(services, LimitSet(scope="experiments", measure="checkpoints", high=5, low=4))
    (row,) = ask(services, "SELECT scope, high, low, used, exceeded, experiments, actor FROM limit_usage")
    assert row == {
        "scope": "experiments",
        "high": 5,
        "low": 4,
        "used": 0,
        "exceeded": False,
        "experiments": 0,
        "actor": "operator",
    }


def test_the_inventory_names_a_scope_that_a_checkpoint_is_pinned_by(services: Services) -> None:
    make(services, 1)
    pins = ["label:team=nlp", "store:memory://store/b/1/", "experiment:vit", "label:odd=key=x"]
    deploy(services, *(ScopePinned(scope=scope) for scope in pins))

    rows = ask(services, "SELECT experiment_id, uri, pinned, pinned_scope FROM checkpoint_inventory")
    assert {row["experiment_id"] for row in rows} == set(LABELS)
    for row in rows:
        one = row["experiment_id"]
        around = [text for text in pins if Scope.parse(text).contains(one, LABELS[one], row["uri"])]
        assert row["pinned_scope"] == min(around, default=None)
        assert not row["pinned"]
    assert {row["pinned_scope"] for row in rows} >= {None, "label:team=nlp", "experiment:vit"}

"""What a recorder's rights cannot keep it from is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from quota.client import Quota
from quota.errors import LogCorrupt, ProjectionDiverged, StateRefused
from quota.services.roles import Role
from roles import RoledDeployment, administer, roled_deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from acceptance.commands import Run
    from servers import PostgresqlServer

COLUMNS = "experiment_id, position, event_id, type, schema_version, occurred_at, recorded_at, actor, data, hash"
COPIED = "type, schema_version, occurred_at, recorded_at, actor, data, hash"
APPENDED = (
    f"INSERT INTO events ({COLUMNS}) SELECT experiment_id, 4, gen_random_uuid(), {COPIED} FROM events"
    " WHERE position = 3"
)
MOVED_BACK = (
    "UPDATE streams SET position = 2, hash = (SELECT hash FROM events WHERE experiment_id = 'x' AND position = 2)"
    " WHERE experiment_id = 'x'"
)


@pytest.fixture
def deployment(postgresql_server: PostgresqlServer) -> Iterator[RoledDeployment]:
    """One with an experiment `x` of three events."""
    with roled_deployment(postgresql_server) as made:
        with Quota(made.urls[Role.RECORDER], "tuner") as db:
            record(db)
        yield made


def record(db: Quota) -> None:
    experiment = db.register_experiment("x", mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=3)
    experiment.trial_started("1")
    experiment.trial_reported("1", resource=1, metric=0.5)


@pytest.mark.parametrize(
    ("forged", "position", "reason"),
    [
        ([APPENDED, "UPDATE streams SET position = 4 WHERE experiment_id = 'x'"], 4, "the event was changed"),
        ([APPENDED], 4, "the event belongs to no chain: the head says 3"),
        (["UPDATE streams SET position = 9 WHERE experiment_id = 'x'"], 4, "the event is missing; the head says 9"),
        (["UPDATE streams SET hash = '\\x00' WHERE experiment_id = 'x'"], 3, "its hash is not the head's"),
        ([MOVED_BACK], 3, "the event belongs to no chain: the head says 2"),
    ],
)
def test_the_audit_names_it(
    run: Run, deployment: RoledDeployment, forged: list[str], position: int, reason: str
) -> None:
    auditor = deployment.urls[Role.AUDITOR]
    assert run("audit", "verify", "-d", auditor).code == 0
    administer(deployment.urls[Role.RECORDER], *forged)
    found = run("audit", "verify", "--json", "-d", auditor)
    (fault,) = found.data["faults"]
    assert (found.code, fault["experiment_id"], fault["position"]) == (1, "x", position)
    assert reason in fault["reason"]


@pytest.mark.parametrize("projected", [False, True])
def test_nothing_more_is_appended_behind_a_head_that_was_moved_back(
    run: Run, deployment: RoledDeployment, *, projected: bool
) -> None:
    if projected:
        assert run("experiment", "list", "-d", deployment.urls[Role.OPERATOR]).code == 0
    administer(deployment.urls[Role.RECORDER], MOVED_BACK)
    error = ProjectionDiverged if projected else LogCorrupt
    with Quota(deployment.urls[Role.RECORDER], "tuner") as db, pytest.raises(error, match="ckpt-quota audit verify"):
        db.experiment("x").trial_started("2")
    with sa.create_engine(deployment.admin_url, poolclass=sa.NullPool).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM events WHERE experiment_id = 'x'").scalar() == 3


def test_whose_a_location_is_can_be_seen(deployment: RoledDeployment) -> None:
    taken = "INSERT INTO checkpoint_locations VALUES ('file:///data/', 'nobody', '1')"
    administer(deployment.urls[Role.RECORDER], taken)
    with Quota(deployment.urls[Role.RECORDER], "tuner") as db, pytest.raises(StateRefused, match="nobody"):
        db.experiment("x").checkpoint_saved("1", location="/data/trial-1", size_bytes=1, resource=1)

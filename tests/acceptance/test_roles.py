"""Each role does its work through the library and the command line, on PostgreSQL, with no more rights than it has."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

import quota
from quota.bootstrap import services
from quota.errors import NotPermitted
from quota.projections.view_columns import VIEW_COLUMNS
from quota.services.ids import new_id
from quota.services.roles import Role
from roles import RoledDeployment, roled_deployment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from acceptance.commands import Run
    from quota.client import ExperimentHandle
    from servers import PostgresqlServer


@pytest.fixture
def deployment(postgresql_server: PostgresqlServer) -> Iterator[RoledDeployment]:
    with roled_deployment(postgresql_server) as made:
        yield made


@pytest.fixture
def store(run: Run, deployment: RoledDeployment, tmp_path: Path) -> Path:
    """A store and a limit, set by the operator."""
    root = tmp_path / "scratch"
    root.mkdir()
    operator = deployment.urls[Role.OPERATOR]
    assert run("store", "add", str(root), "-d", operator).code == 0
    assert run("limit", "set", "--checkpoints", "1", "-d", operator).code == 0
    return root


def save(experiment: ExperimentHandle, root: Path, trial_id: str, resource: int = 1) -> None:
    place = root / f"trial-{trial_id}"
    place.mkdir(exist_ok=True)
    (place / "weights").write_bytes(b"w" * 100)
    experiment.checkpoint_saved(trial_id, location=place, size_bytes=100, resource=resource)


def pause_some(experiment: ExperimentHandle, root: Path, *trial_ids: str) -> None:
    for trial_id in trial_ids:
        experiment.trial_started(trial_id)
        experiment.trial_reported(trial_id, resource=1, metric=float(trial_id))
        save(experiment, root, trial_id)
        experiment.trial_paused(trial_id, level=1, metric=float(trial_id))


def register(db: quota.Quota) -> ExperimentHandle:
    return db.register_experiment(
        "asha", mode="min", rung_levels=[1, 3], promotion_quantiles=[0.5, 0.5], max_resource=9
    )


def test_a_whole_experiment(run: Run, deployment: RoledDeployment, store: Path) -> None:
    operator, auditor = deployment.urls[Role.OPERATOR], deployment.urls[Role.AUDITOR]
    with quota.connect(deployment.urls[Role.RECORDER]) as db:
        pause_some(register(db), store, "1", "2", "3")
        swept = run("sweep", "--json", "-d", operator)
        assert (swept.code, swept.data["evicted"]) == (0, 2)
        # The other one is gone from the trash by the time that its trial is resumed.
        experiment = db.experiment("asha")
        (decision,) = [row for row in evictions(run, auditor) if row["trial_id"] == "2"]
        rescued = experiment.resume_trial("2", level=1)
        assert rescued is not None
        assert (rescued.path / "weights").read_bytes() == b"w" * 100
        assert experiment.promised_checkpoint("2") == rescued
        save(experiment, store, "2", resource=3)
        experiment.trial_completed("2")
        shutil.rmtree(store / "trial-1")
        assert experiment.resume_trial("1", level=1) is None
        experiment.trial_failed("1", error="no")
        experiment.checkpoint_pinned("2", location=store / "trial-2")
        experiment.finished()
    audited(run, auditor, decision["decision_id"])
    assert run("rebuild", "-d", operator).code == 0
    assert run("rebuild", "--verify", "-d", operator).code == 0
    assert run("reconcile", "--record", "-d", operator).code == 0
    assert run("restore", "--help").code == 0
    fate = [row["outcome"] for row in evictions(run, auditor) if row["trial_id"] == "2"]
    assert fate == ["restored"]


def evictions(run: Run, url: str) -> list[dict[str, str]]:
    answer = run("evictions", "--json", "-d", url)
    assert answer.code == 0
    found: list[dict[str, str]] = answer.data
    return found


def audited(run: Run, auditor: str, decision_id: str) -> None:
    """Do all that an auditor does, while the views lag behind the log."""
    for command in (
        ["audit", "verify", "--jobs", "2"],
        ["audit", "head"],
        ["audit", "export", "asha"],
        ["audit", "export", "_deployment"],
        ["explain", decision_id],
        ["evictions"],
        ["plan"],
        ["rebuild", "--verify"],
        ["doctor"],
        ["experiment", "list"],
        ["experiment", "show", "asha"],
        ["limit", "list"],
        ["store", "list"],
        ["reserve", "list"],
        ["pin", "--list"],
        ["db", "current"],
    ):
        answer = run(*command, "-d", auditor)
        assert (answer.code, answer.out != "") == (0, True), (command, answer)
        lags = "" if command[0] in {"audit", "plan", "rebuild", "doctor", "store", "db"} else "the views lag behind"
        assert lags in answer.err


def test_an_auditor_reads_every_view(deployment: RoledDeployment) -> None:
    with services(deployment.urls[Role.AUDITOR], "auditor") as opened:
        for view in VIEW_COLUMNS:
            assert opened.queries.ask(f"SELECT * FROM {view}") == []


def test_a_decision_is_explained_that_no_row_tells_of_yet(run: Run, deployment: RoledDeployment, store: Path) -> None:
    with quota.connect(deployment.urls[Role.RECORDER]) as db:
        pause_some(register(db), store, "1", "2")
    assert run("sweep", "-d", deployment.urls[Role.OPERATOR]).code == 0
    (decision,) = evictions(run, deployment.urls[Role.AUDITOR])
    with services(deployment.admin_url, "admin") as opened, opened.database.write() as connection:
        for table in ("decisions", "projected_streams"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    found = run("explain", decision["decision_id"], "--json", "-d", deployment.urls[Role.AUDITOR])
    assert (found.code, found.data["recomputed"]) == (0, True)


def test_an_orphan_is_given_back_by_a_recorder(run: Run, deployment: RoledDeployment, store: Path) -> None:
    operator = deployment.urls[Role.OPERATOR]
    place = store / "trial-7"
    place.mkdir()
    (place / "weights").write_bytes(b"w" * 100)
    assert run("reconcile", "--trash-orphans", "--orphans-older-than", "0", "-d", operator).code == 0
    assert not place.exists()
    with quota.connect(deployment.urls[Role.RECORDER]) as db:
        experiment = register(db)
        experiment.trial_started("7")
        experiment.checkpoint_saved("7", location=place, size_bytes=100, resource=1)
        experiment.trial_reported("7", resource=1, metric=0.5)
        experiment.trial_paused("7", level=1, metric=0.5)
        for _ in range(2):
            found = experiment.resume_trial("7", level=1)
            assert found is not None
            assert (found.path / "weights").exists()
            experiment.trial_paused("7", level=1, metric=0.5)
    assert run("experiment", "list", "-d", operator).code == 0
    assert run("rebuild", "--verify", "-d", operator).code == 0
    assert [row["outcome"] for row in evictions(run, operator)] == ["restored"]


def test_a_recorder_pins_and_ingests(run: Run, deployment: RoledDeployment, store: Path, tmp_path: Path) -> None:
    recorder = deployment.urls[Role.RECORDER]
    with quota.connect(recorder) as db:
        pause_some(register(db), store, "1")
    assert run("pin", "asha", "1", "-d", recorder).code == 0
    exported = run("audit", "export", "asha", "-d", deployment.urls[Role.AUDITOR]).out
    lines = tmp_path / "events.jsonl"
    lines.write_text(exported)
    assert run("ingest", str(lines), "-d", recorder).code == 0
    assert run("experiment", "finish", "asha", "-d", recorder).code == 0


def test_a_daemon_runs_as_an_operator(deployment: RoledDeployment) -> None:
    with services(deployment.urls[Role.OPERATOR], "operator") as opened:
        daemon_id = new_id()
        opened.heartbeats.begin(daemon_id, "1", timedelta(seconds=1))
        opened.heartbeats.beat(daemon_id, timedelta(seconds=1))
        opened.heartbeats.note(daemon_id, "sweep", None)
        with opened.leases.held("sweep", timedelta(seconds=9)) as lease:
            lease.keep()
        opened.heartbeats.end(daemon_id)
        assert opened.heartbeats.look() == []


@pytest.mark.parametrize(
    ("role", "command"),
    [
        (Role.RECORDER, ["sweep"]),
        (Role.RECORDER, ["store", "add", "."]),
        (Role.RECORDER, ["limit", "set", "--checkpoints", "1"]),
        (Role.RECORDER, ["rebuild"]),
        (Role.AUDITOR, ["sweep"]),
        (Role.AUDITOR, ["store", "add", "."]),
        (Role.AUDITOR, ["limit", "set", "--checkpoints", "1"]),
        (Role.AUDITOR, ["rebuild"]),
        (Role.AUDITOR, ["experiment", "finish", "asha"]),
    ],
)
def test_whoever_may_not_is_told_so(
    run: Run, deployment: RoledDeployment, store: Path, role: Role, command: list[str]
) -> None:
    with quota.connect(deployment.urls[Role.RECORDER]) as db:
        pause_some(register(db), store, "1")
    answer = run(*command, "-d", deployment.urls[role])
    assert answer.code == 1
    assert "see docs/roles.md" in answer.err
    assert "permission denied" in answer.err or "row-level security" in answer.err


def test_an_auditor_records_nothing(deployment: RoledDeployment) -> None:
    with quota.connect(deployment.urls[Role.AUDITOR]) as db, pytest.raises(NotPermitted, match="permission denied"):
        register(db)


def test_the_doctor_names_the_role(run: Run, deployment: RoledDeployment) -> None:
    said = {
        Role.RECORDER: (False, "has the rights of a recorder"),
        Role.OPERATOR: (False, "has the rights of an operator"),
        Role.AUDITOR: (False, "may only read"),
        Role.OWNER: (True, "owns the events"),
    }
    urls = {**deployment.urls, None: deployment.admin_url}
    for role, url in urls.items():
        (found,) = [one for one in run("doctor", "--json", "-d", url).data if one["check"] == "role"]
        warns, detail = (True, "is a superuser") if role is None else said[role]
        assert (found["ok"], found["warns"], detail in found["detail"]) == (True, warns, True)


def test_the_command_prints_what_it_grants(run: Run, deployment: RoledDeployment) -> None:
    prefix, url = deployment.names.prefix, deployment.admin_url
    answer = run("db", "roles", "--prefix", prefix, "-d", url)
    assert (answer.code, f"{prefix}_recorder" in answer.out) == (0, True)
    answer = run("db", "roles", "--prefix", prefix, "--json", "-d", url)
    assert answer.data["roles"]["auditor"] == f"{prefix}_auditor"
    assert answer.data["granted"] is True
    assert {"role": f"{prefix}_recorder", "on": "stores", "privileges": ["SELECT"]} in answer.data["rights"]
    answer = run("db", "roles", "--prefix", prefix, "--sql", "-d", deployment.urls[Role.AUDITOR])
    assert answer.code == 0
    assert answer.out.startswith("BEGIN;\n")
    assert answer.out.endswith("COMMIT;\n")
    assert f"GRANT SELECT ON public.stores TO {prefix}_recorder;\n" in answer.out


def test_sqlite_says_which_permissions_stand_for_them(run: Run, sqlite_url: str) -> None:
    assert run("db", "upgrade", "-d", sqlite_url).code == 0
    answer = run("db", "roles", "-d", sqlite_url)
    assert answer.code == 2
    assert "SQLite has no roles" in answer.err
    assert "chmod 700" in answer.err


def test_an_operator_archives_and_only_the_owner_takes_events_out_and_puts_them_back(
    run: Run, deployment: RoledDeployment, store: Path, tmp_path: Path
) -> None:
    operator, owner, auditor = (deployment.urls[one] for one in (Role.OPERATOR, Role.OWNER, Role.AUDITOR))
    with quota.connect(deployment.urls[Role.RECORDER]) as db:
        experiment = register(db)
        pause_some(experiment, store, "1")
        experiment.trial_stopped("1")
        shutil.rmtree(store / "trial-1")
        experiment.finished()
    assert run("reconcile", "--record", "-d", operator).code == 0
    archives = str(tmp_path / "archives")
    assert run("archive", "create", "asha", "--to", archives, "-d", auditor).code == 1
    created = run("archive", "create", "asha", "--to", archives, "-d", operator)
    assert created.code == 0, created.err
    for step in ("remove-events", "restore"):
        refused = run("archive", step, "asha", "-d", operator)
        assert refused.code == 1
        assert "permission denied for table" in refused.err
        done = run("archive", step, "asha", "-d", owner)
        assert done.code == 0, done.err
        assert run("audit", "verify", "--archives", "-d", auditor).code == 0

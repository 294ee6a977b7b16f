"""BAD_INPUT, Settings."""

from __future__ import annotations

import errno
from datetime import timedelta
from pathlib import Path

import pytest

import quota
from bad_input import event, experiment, send
from integration.local_store.house import failing, succeeds
from quota.domain.events import LimitSet, PolicyParameters
from quota.errors import BadInput, DatabaseUnavailable, PathRefused, SettingsRefused, StoreError
from quota.eventlog.database import Database
from quota.eventlog.database_urls import file_system_of, parse_url
from quota.services.sweep_order import SweepOrder
from quota.settings import load_settings

ADVICE = "use sqlite:///quota.db or postgresql+psycopg://user@host/name"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("QUOTA_CONFIG", str(path))
    return path


def refused(**given: object) -> str:
    with pytest.raises(SettingsRefused) as caught:
        load_settings(**given)
    return str(caught.value)


def test_unknown_key(config: Path) -> None:
    config.write_text('databse = "sqlite:///x.db"\n')
    assert refused().startswith(
        f"settings file {config}: field `databse` is 'sqlite:///x.db': no such key; known are database, actor,"
    )


def test_unreadable_toml_names_the_line(config: Path) -> None:
    config.write_text('actor = "me"\ndatabase = = 3\n')
    assert (
        refused() == f"settings file {config} is {str(config)!r}: it is no TOML: Invalid value (at line 2, column 12)"
    )


def test_settings_file_that_cannot_be_read(config: Path) -> None:
    assert refused() == f"settings file {config} is {str(config)!r}: it cannot be read: No such file or directory"
    config.write_bytes(b"actor = '\xff'")
    assert refused() == f"settings file {config} is {str(config)!r}: it is no UTF-8 text"


def test_order_of_the_sources(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('policy = "by_level"\nactor = "file"\ntrash_retention = "7d"\n')
    monkeypatch.setenv("QUOTA_ACTOR", "environment")
    settings = load_settings(policy="random")
    assert (settings.policy, settings.actor, settings.trash_retention) == ("random", "environment", timedelta(days=7))


def test_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTA_TRASH_RETENTON", "7d")
    message = "environment: field `QUOTA_TRASH_RETENTON` is '7d': no such variable; did you mean QUOTA_TRASH_RETENTION?"
    assert refused() == message
    monkeypatch.delenv("QUOTA_TRASH_RETENTON")
    monkeypatch.setenv("QUOTA_S3_MY_BUCKET_REGION", "eu-west-1")
    assert load_settings().actor


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"policy": "best"},
            "settings: field `policy` is 'best': Input should be 'syne-tune', 'expected-cost', 'by_level' or 'random'",
        ),
        ({"trash_retention": "soon"}, ("settings: field `trash_retention` is 'soon': "
         "write a number and a unit: 90s, 15m, 1h or 7d")),
        ({"keep_completed": -1}, ("settings: field `keep_completed` is -1: "
         "Input should be greater than or equal to 0")),
        ({"keep_completed": True}, "settings: field `keep_completed` is True: write a number"),
        ({"min_age": "-1h"}, "settings: field `min_age` is '-1h': write a number and a unit: 90s, 15m, 1h or 7d"),
        ({"finished_retention": "long"}, ("settings: field `finished_retention` is 'long': "
         "write a number and a unit: 90s, 15m, 1h or 7d")),
        ({"trash_retention": "-1h"}, ("settings: field `trash_retention` is '-1h': "
         "write a number and a unit: 90s, 15m, 1h or 7d")),
        ({"trash_retention": True}, ("settings: field `trash_retention` is True: "
         "write a number and a unit: 90s, 15m, 1h or 7d")),
        ({"trash_retention": False}, ("settings: field `trash_retention` is False: "
         "write a number and a unit: 90s, 15m, 1h or 7d")),
        ({"lease_term": 7}, "settings: field `lease_term` is 7: write a number and a unit: 90s, 15m, 1h or 7d"),
        ({"prior_size": True}, "settings: field `prior_size` is True: write a number"),
        ({"most_evictions": True}, "settings: field `most_evictions` is True: write a number"),
        ({"most_evicted_bytes": True}, "settings: field `most_evicted_bytes` is True: write a number"),
        ({"most_evicted_bytes": "200G"}, ("settings: field `most_evicted_bytes` is '200G': "
         "write a number and a unit: 500MB, 200GB, 1.5TiB, or bytes")),
        ({"most_evicted_bytes": "0GB"}, ("settings: field `most_evicted_bytes` is '0GB': "
         "Input should be greater than or equal to 1")),
    ],
)  # fmt: skip
def test_value_is_refused(given: dict[str, object], message: str) -> None:
    assert refused(**given) == message


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://host/name", "mysql is not supported"),
        ("nonsense://host", "nonsense is not supported"),
        ("quota.db", "this is no database URL"),
        ("sqlite://", "the log must outlive the process"),
        ("sqlite:///a%00b", "the log must outlive the process"),
        ("sqlite:///quota.db?timeout=abc", "a SQLite URL takes no options here, so leave out what follows its `?`"),
        (f"postgresql://me@{'h' * 64}/name", f"no host can be called {'h' * 64}"),
    ],
)
def test_database_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(SettingsRefused) as caught:
        Database(url)
    assert str(caught.value) == f"database: field `url` is {url!r}: {reason}; {ADVICE}"


def test_database_in_memory_is_refused() -> None:
    with pytest.raises(SettingsRefused, match="the log must outlive the process"):
        Database("sqlite:///:memory:")


def test_password_is_not_shown() -> None:
    with pytest.raises(SettingsRefused) as caught:
        parse_url("mysql://me:secret@host/name")
    assert "secret" not in str(caught.value)


def test_sqlite_on_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quota.eventlog.database_urls.file_system_of", lambda _: "nfs4")
    url = f"sqlite:///{tmp_path}/quota.db"
    with pytest.raises(SettingsRefused) as caught:
        Database(url)
    assert str(caught.value) == (
        f"database: field `url` is {url!r}: it lies on a network file system (nfs4), "
        "where SQLite's locks do not hold; use PostgreSQL"
    )


def test_sqlite_where_there_is_no_folder(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/missing/quota.db")
    with pytest.raises(DatabaseUnavailable, match="missing/quota"), database.write():
        pass
    database.close()


def test_postgresql_that_does_not_answer(tmp_path: Path) -> None:
    database = Database(f"postgresql://nobody@/nothing?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable, match="database postgresql"), database.read():
        pass
    database.close()


def test_checkpoint_in_no_store_is_shown_and_never_a_candidate(database_url: str) -> None:
    uri = "file:///elsewhere/7"
    with experiment(database_url) as services:
        services.administration.add_store("memory://store/")
        services.administration.set_limit(LimitSet(scope="experiments", measure="checkpoints", high=1, low=1))
        send(
            services,
            event("checkpoint_saved", {"trial_id": "7", "uri": uri, "size_bytes": 1, "resource": 1}),
            event("trial_paused", {"trial_id": "7", "level": 1, "metric": 0.5}),
            event("trial_started", {"trial_id": "8"}),
        )
        order = SweepOrder(PolicyParameters(), timedelta())
        report = services.sweeper.sweep(["one"], order)
        assert (report.tally.decided, report.exceeded) == (0, ["one"])
        assert services.queries.ask("SELECT uri, state, store FROM checkpoint_inventory") == [
            {"uri": uri, "state": "stored", "store": None}
        ]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("scratch/hpo", "a location is an absolute URI"),
        ("file:///scratch/../etc", "`.` and `..` are not followed"),
        ("file:///scratch//hpo", "it has an empty component"),
        ("memory://store/.trash/", "`.trash` is reserved"),
    ],
)
def test_store_root_is_refused(sqlite_url: str, uri: str, message: str) -> None:
    with experiment(sqlite_url) as services:
        with pytest.raises(PathRefused) as caught:
            services.administration.add_store(uri)
        assert str(caught.value).startswith(f"store {uri}: field `uri` is {uri!r}: {message}")
        assert services.administration.look().stores == {}


def test_store_above_the_database(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/quota.db"
    with experiment(database) as services, pytest.raises(PathRefused, match="the database's own file lies below"):
        services.administration.add_store(tmp_path.parent.as_uri())


def database_reached(way: str, folder: Path) -> tuple[Path, Path]:
    """Make `folder/disk`; returns where a database lies in it by the one name, and what the disk is by the other."""
    disk, other = folder / "disk", folder / "other"
    (disk / "db").mkdir(parents=True)
    database = disk / "db" / "quota.db"
    match way:
        case "the root is a link":
            other.symlink_to(disk)
            return database, other
        case "a link leads to the root":
            other.symlink_to(folder)
            return database, other / "disk"
        case "the database's directory is a link":
            other.symlink_to(disk / "db")
            return other / "quota.db", disk
        case "the database is a link into the root":
            other.mkdir()
            (other / "quota.db").symlink_to(database)
            return other / "quota.db", disk
        case _:
            other.mkdir()
            database.symlink_to(other / "quota.db")
            return database, disk


@pytest.mark.parametrize(
    "way",
    [
        "the root is a link",
        "a link leads to the root",
        "the database's directory is a link",
        "the database is a link into the root",
        "the database is a link out of the root",
    ],
)
@pytest.mark.parametrize("below", ["", "db"])
def test_store_above_the_database_under_another_name(tmp_path: Path, way: str, below: str) -> None:
    database, root = database_reached(way, tmp_path)
    with experiment(f"sqlite:///{database}") as services:
        with pytest.raises(PathRefused, match="the database's own file lies below"):
            services.administration.add_store((root / below).as_uri())
        assert services.administration.look().stores == {}


def test_store_above_the_database_that_is_mounted_elsewhere(tmp_path: Path) -> None:
    disk, other = tmp_path / "disk", tmp_path / "other"
    other.mkdir()
    (disk / "db").mkdir(parents=True)
    if not succeeds("mount", "--bind", str(disk), str(other)):
        pytest.skip("this user may not mount")
    try:
        with experiment(f"sqlite:///{disk}/db/quota.db") as services:
            for root in (other, other / "db"):
                with pytest.raises(PathRefused, match="the database's own file lies below"):
                    services.administration.add_store(root.as_uri())
    finally:
        assert succeeds("umount", "--lazy", str(other))


def test_store_of_which_nobody_can_tell_whether_the_database_lies_below(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with experiment(sqlite_url) as services:
        monkeypatch.setattr(Path, "samefile", failing(errno.EIO))
        (tmp_path / "checkpoints").mkdir()
        with pytest.raises(StoreError, match=r"cannot tell whether the database .* lies below it: Input/output error"):
            services.administration.add_store((tmp_path / "checkpoints").as_uri())
        assert services.administration.look().stores == {}


def test_store_beside_the_database(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "checkpoints")
    with experiment(sqlite_url) as services:
        root = (tmp_path / "link").as_uri()
        assert services.administration.add_store(root).uri == root


def test_every_refusal_is_of_the_family() -> None:
    assert issubclass(SettingsRefused, BadInput)
    assert not issubclass(StoreError, BadInput)


def test_a_sqlite_url_with_too_few_slashes() -> None:
    with pytest.raises(SettingsRefused, match="three slashes before a relative path"):
        Database("sqlite://var/lib/quota.db")


def test_python_takes_the_settings_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTA_DATABASE", f"sqlite:///{tmp_path}/elsewhere.db")
    with quota.connect() as db:
        db.register_experiment("x", mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=9)
    assert (tmp_path / "elsewhere.db").exists()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="is there such a directory"):
        quota.connect(f"sqlite:///{tmp_path}/nowhere/quota.db")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("lease_term", "0", "at least 1s"), ("trash_retention", timedelta(days=99_999), "at most 3153600000s")],
)
def test_bounds_of_durations_are_said_in_words(name: str, value: object, says: str) -> None:
    with pytest.raises(SettingsRefused, match=f"`{name}` is .*{says}"):
        load_settings(**{name: value})


def test_a_network_file_system_is_known_by_names_of_any_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "21 1 254:1 / / rw - ext4 /dev/vda1 rw\n30 21 0:40 / /mnt/donn\u00e9es\\040x rw - nfs4 host:/ rw\n"
    )
    monkeypatch.setattr("quota.eventlog.database_urls._MOUNTS", table)
    assert file_system_of(Path("/mnt/donn\u00e9es x/quota.db")) == "nfs4"
    assert file_system_of(Path("/mnt/donn\u00e9es/quota.db")) == "ext4"


def test_a_relative_database_stays_where_it_was_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with quota.connect("sqlite:///relative.db") as db:
        monkeypatch.chdir(tmp_path / "elsewhere")
        db.register_experiment("x", mode="min", rung_levels=[1], promotion_quantiles=[0.5], max_resource=9)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "relative.db").exists()

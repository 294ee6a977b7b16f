"""What is written out is the same from either database, and loses nothing."""

from __future__ import annotations

import csv
import io
import json
import math
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq
import pytest
from sqlalchemy import BigInteger, Boolean, Double, Text, insert, select, text

from quota.domain.events import ExperimentFinished, TrialReported, TrialStarted
from quota.errors import SettingsRefused
from quota.eventlog.chain import ChainedRow, chain_hash
from quota.eventlog.tables import metadata
from quota.eventlog.types import Instant, JsonText, UuidText, iso_text
from quota.projections.view_columns import VIEW_COLUMNS
from quota.projections.view_tables import VIEWS
from quota.services import parquet
from quota.services.export_formats import csv_lines, json_lines
from quota.services.exporting import EXPORTED
from quota.services.parquet import write_parquet
from quota.services.sweep_order import SweepOrder
from support import HandClock, create_schema, services_over
from sweeps import BY_LEVEL, DAY, Sweeps, WatchedStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from quota.bootstrap import Services

KINDS = {
    BigInteger: {"bigint", "integer"},
    Double: {"double precision"},
    Boolean: {"boolean"},
    JsonText: {"json"},
    Text: {"text"},
    Instant: {"timestamp with time zone"},
    UuidText: {"uuid"},
}


def fill(sweeps: Sweeps) -> None:
    """Evict two of four, let diverged trials report, and end all."""
    sweeps.prepare(4, high=3, low=2)
    for number, metric in enumerate((math.nan, math.inf, -math.inf, 0.1 + 0.2), start=5):
        trial_id = f'{number}, "ü"\n'[:-1]
        sweeps.send(TrialStarted(trial_id=trial_id), TrialReported(trial_id=trial_id, resource=1, metric=metric))
    sweeps.sweep(SweepOrder(BY_LEVEL, DAY))
    sweeps.send(ExperimentFinished())
    sweeps.services.queries.catch_up(["x"])


def copy(source: Services, target: Services) -> None:
    with source.database.read() as one, target.database.write() as other:
        for table in metadata.sorted_tables:
            columns = [column for column in table.c if column.identity is None]
            rows = [dict(row) for row in one.execute(select(*columns)).mappings()]
            if rows:
                other.execute(insert(table), rows)


@pytest.fixture
def both(sqlite_url: str, postgresql_url: str) -> Iterator[tuple[Services, Services]]:
    """The same log and rows in an SQLite and a PostgreSQL database."""
    clock, store = HandClock(), WatchedStore()
    with ExitStack() as stack:
        opened = []
        for url in (sqlite_url, postgresql_url):
            create_schema(url)
            opened.append(stack.enter_context(services_over(url, clock, lambda _: store)))
        fill(Sweeps(opened[0], clock, store))
        copy(opened[0], opened[1])
        yield opened[0], opened[1]


def as_csv(services: Services, what: str) -> bytes:
    with services.exporter.exported(what, []) as found:
        return b"".join(csv_lines(found.columns, found.rows))


def as_json(services: Services, what: str) -> bytes:
    with services.exporter.exported(what, []) as found:
        return b"".join(json_lines(found.columns, found.rows))


def as_parquet(services: Services, what: str, place: Path) -> Path:
    with services.exporter.exported(what, []) as found, place.open("wb") as stream:
        write_parquet(stream, found.columns, found.rows)
    return place


def test_both_databases_give_the_same_bytes(both: tuple[Services, Services], tmp_path: Path) -> None:
    sqlite, postgresql = both
    for what in EXPORTED:
        written = as_csv(sqlite, what)
        assert written == as_csv(postgresql, what), what
        assert len(list(csv.reader(io.StringIO(written.decode())))) > 1, what
        lines = as_json(sqlite, what)
        assert lines == as_json(postgresql, what), what
        one, other = (pq.read_table(as_parquet(each, what, tmp_path / what)) for each in both)
        assert one.schema == other.schema
        assert one.equals(other), what
        assert one.num_rows == lines.count(b"\n")


def test_each_format_says_the_same(both: tuple[Services, Services], tmp_path: Path) -> None:
    for what in EXPORTED:
        rows = pq.read_table(as_parquet(both[0], what, tmp_path / what)).to_pylist()
        lines = [json.loads(line, parse_constant=refused) for line in as_json(both[0], what).splitlines()]
        fields = list(csv.DictReader(io.StringIO(as_csv(both[0], what).decode())))
        assert [list(row) for row in rows] == [list(line) for line in lines] == [list(row) for row in fields]
        for row, line, field in zip(rows, lines, fields, strict=True):
            for name, value in row.items():
                assert as_text(value) == field[name], (what, name)
                assert says(value, line[name]), (what, name)


def refused(name: str) -> Any:  # noqa: ANN401
    raise AssertionError(f"{name} is no JSON")


def says(value: object, told: object) -> bool:
    """Tell whether a value of JSON is that of Parquet, where JSON is text."""
    return json.loads(str(value)) == told if isinstance(told, dict | list) else as_plain(value) == told


def as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(as_plain(value)) if not isinstance(value, float) or not math.isfinite(value) else repr(value)


def as_plain(value: Any) -> object:  # noqa: ANN401
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return iso_text(value) if isinstance(value, datetime) else value


def test_diverged_metrics_are_kept(both: tuple[Services, Services], tmp_path: Path) -> None:
    query = "FROM read_parquet($place) WHERE type = 'trial_reported' ORDER BY position"
    place = as_parquet(both[1], "events", tmp_path / "events")
    told = duckdb.execute(f"SELECT data->>'metric' {query}", {"place": str(place)}).fetchall()
    assert told == [("NaN",), ("Infinity",), ("-Infinity",), ("0.30000000000000004",)]
    place = as_parquet(both[1], "trial_history", tmp_path / "history")
    told = duckdb.execute(f"SELECT metric {query}", {"place": str(place)}).fetchall()
    assert told == [(None,), (math.inf,), (-math.inf,), (0.1 + 0.2,)]
    assert as_csv(both[1], "trial_history").count(b"Infinity") == 2


def test_a_chain_can_be_recomputed_from_parquet_alone(both: tuple[Services, Services], tmp_path: Path) -> None:
    rows = pq.read_table(as_parquet(both[1], "events", tmp_path / "events")).to_pylist()
    with both[1].exporter.exported("events", ["x"]) as found:
        (head,) = found.heads
    previous = bytes(32)
    own = [row for row in rows if row["experiment_id"] == "x"]
    for row in own:
        previous = chain_hash(previous, ChainedRow(*(row[name] for name in ChainedRow._fields)))
        assert row["hash"] == previous
    assert (head.position, head.hash) == (len(own), previous.hex())


def test_a_view_of_one_experiment(both: tuple[Services, Services]) -> None:
    with both[1].exporter.exported("quota_usage", ["x"]) as found:
        assert len(list(found.rows)) == 1
    with both[1].exporter.exported("quota_usage", ["y"]) as found:
        assert list(found.rows) == []
    for what, stream in (("sweep_history", "x"), ("quota_usage", "_deployment")):
        with pytest.raises(SettingsRefused, match="belong to no such thing"), both[0].exporter.exported(what, [stream]):
            pass


def test_row_groups_hold_so_many_rows_or_bytes(
    both: tuple[Services, Services], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_MOST_ROWS", 4), ("_MOST_BYTES", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(parquet, name, value)
            read = pq.ParquetFile(as_parquet(both[0], "events", tmp_path / name))
        sizes = [read.metadata.row_group(number).num_rows for number in range(read.num_row_groups)]
        assert set(sizes[:-1]) == {4 if name == "_MOST_ROWS" else 1}
        assert sum(sizes) == read.metadata.num_rows > 8


def test_every_column_of_a_view_has_the_databases_type(both: tuple[Services, Services]) -> None:
    query = text("SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_name = :view")
    assert {name: list(view.c.keys()) for name, view in VIEWS.items()} == {
        name: list(columns) for name, columns in VIEW_COLUMNS.items()
    }
    with both[1].database.read() as connection:
        for name, view in VIEWS.items():
            kinds = {column: kind for _, column, kind in connection.execute(query, {"view": name})}
            for column in view.c:
                assert kinds[column.name] in KINDS[type(column.type)], (name, column.name)

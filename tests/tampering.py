"""A recorded deployment that is tampered with, and how a hand gets at its rows; each time all is undone."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text, update

from integration.test_recomputing import tell
from quota.domain.events import (
    CheckpointPinned,
    ExperimentFinished,
    ExperimentRegistered,
    PolicyParameters,
    ReserveSet,
    TrialReported,
    TrialStarted,
    TrialStopped,
)
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import ProjectionDiverged
from quota.eventlog.chain import ChainedRow, chain_hash
from quota.eventlog.tables import events
from quota.projections import snapshots
from quota.projections.rebuild import stray_streams, streams_to_project
from quota.projections.tables import DEPLOYMENT_TABLES, EXPERIMENT_TABLES, rung_snapshots
from quota.services.auditing import Fault, Head
from quota.services.ids import new_id
from quota.services.sweep_order import SweepOrder
from support import create_schema, tamper
from sweeps import DAY, Sweeps, sweeps_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Table

    from quota.bootstrap import Services

Place = tuple[str, int]
"""A stream, and a position in it."""

Row = tuple[str, tuple[Any, ...]]
"""A table, and a key in it."""

CHAINED = (*ChainedRow._fields, "hash")
EXPECTED_COST = SweepOrder(PolicyParameters(policy="expected-cost"), DAY)


class _UndoneError(Exception):
    """Rolls a transaction back."""


@dataclass(frozen=True)
class Recorded:
    """Three streams, caught up, whose heads were kept."""

    services: Services
    kept: list[Head]

    def audit(self) -> list[Fault]:
        """Do what `audit verify --heads` does about chains."""
        auditor = self.services.auditor
        named = {head.experiment_id for head in self.kept}
        unkept = [head for head in auditor.heads() if head.experiment_id not in named]
        faults = [auditor.verify(head, lambda _: None) for head in (*self.kept, *unkept)]
        headless = [Fault(stream, 0, "the stream has events and no head") for stream in auditor.orphans()]
        return [*(fault for fault in faults if fault is not None), *headless]

    def verify(self) -> tuple[set[Row], set[str]]:
        """Do what `rebuild --verify` does: return the rows that differ, and the streams whose rows contradict it."""
        services, rows, failed = self.services, set[Row](), set[str]()
        with services.database.read() as connection:
            streams = [stream for stream, _ in streams_to_project(connection, services.log)]
            streams += stray_streams(connection, services.log)
        for stream in streams:
            try:
                for one in services.rebuilder.verify(stream, lambda _: None):
                    rows.add((one.table, tuple(one.key.values())))
            except ProjectionDiverged:
                failed.add(stream)
        return rows, failed

    @contextmanager
    def hand(self, seed: str | int) -> Iterator[Hand]:
        """Do and read all in one transaction, which is rolled back."""
        database = self.services.database
        with suppress(_UndoneError), database.write() as connection:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(database, "write", lambda: nullcontext(connection))
                patch.setattr(database, "read", lambda: nullcontext(connection))
                lengths = {head.experiment_id: head.position for head in self.kept}
                yield Hand(self.services, connection, Random(seed), lengths)  # noqa: S311 - not to keep a secret
            raise _UndoneError


@dataclass(frozen=True)
class Hand:
    """Somebody who may do anything to the database."""

    services: Services
    connection: Connection
    rng: Random
    lengths: dict[str, int] = field(default_factory=dict)

    @property
    def is_sqlite(self) -> bool:
        return self.services.database.is_sqlite

    def run(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        done = self.connection.execute(text(statement), values)
        return [tuple(row) for row in done] if done.returns_rows else []

    def stream(self) -> str:
        return self.rng.choice(sorted(self.lengths))

    def place(self) -> Place:
        stream = self.stream()
        return stream, self.rng.randint(1, self.lengths[stream])

    def two_places(self) -> tuple[str, int, int]:
        """Choose two places of one stream, the first one first."""
        stream = self.stream()
        first, second = sorted(self.rng.sample(range(1, self.lengths[stream] + 1), 2))
        return stream, first, second

    def cast(self, table: Table, column: str, name: str) -> str:
        """Return a parameter that is given as text, as what the column holds."""
        if self.is_sqlite:
            return f":{name}"
        kind = table.c[column].type.compile(self.connection.dialect).partition(" COLLATE")[0]
        return f"CAST(:{name} AS {kind})" if kind == "BYTEA" else f"CAST(CAST(:{name} AS TEXT) AS {kind})"

    def written(self, place: Place, column: str) -> Any:  # noqa: ANN401 - whatever the column holds
        """Return what an event's column holds, times and numbers as text."""
        read = column if column == "hash" else f"CAST({column} AS TEXT)"
        ((value,),) = self.run(f"SELECT {read} FROM events WHERE {_AT}", stream=place[0], position=place[1])
        return value

    def write(self, place: Place, column: str, value: object) -> None:
        # A driver writes no text that is none.
        parameter = "CAST(:v AS TEXT)" if isinstance(value, bytes) and column != "hash" else self._parameter(column)
        self.run(f"UPDATE events SET {column} = {parameter} WHERE {_AT}", stream=place[0], position=place[1], v=value)

    def _parameter(self, column: str) -> str:
        return self.cast(events, column, "v")

    def drop(self, place: Place) -> None:
        self.run(f"DELETE FROM events WHERE {_AT}", stream=place[0], position=place[1])

    def copy(self, place: Place, to: Place) -> None:
        """Insert a row like another, under an id of its own."""
        changed: dict[str, object] = {"experiment_id": to[0], "position": to[1], "event_id": new_id()}
        values = {name: value if self.is_sqlite else str(value) for name, value in changed.items()}
        chosen = [self.cast(events, name, name) if name in changed else name for name in CHAINED]
        self.run(
            f"INSERT INTO events ({', '.join(CHAINED)}) SELECT {', '.join(chosen)} FROM events"
            " WHERE experiment_id = :of AND position = :at",
            **values,
            of=place[0],
            at=place[1],
        )

    def renumber(self, stream: str, *, after: int, by: int) -> None:
        """Move all rows after a position, in two steps, or they would be in each other's way."""
        where = "WHERE experiment_id = :stream AND position"
        self.run(f"UPDATE events SET position = -position - :by {where} > :after", stream=stream, after=after, by=by)
        self.run(f"UPDATE events SET position = -position {where} < 0", stream=stream)

    def move(self, place: Place, to: Place) -> None:
        self.run(
            f"UPDATE events SET experiment_id = :to, position = :there WHERE {_AT}",
            stream=place[0],
            position=place[1],
            to=to[0],
            there=to[1],
        )

    def swap(self, stream: str, first: int, second: int) -> None:
        for of, to in ((first, -1), (second, first), (-1, second)):
            self.move((stream, of), (stream, to))

    def chain(self, stream: str, start: int, end: int) -> bytes:
        """Compute the hashes of a part of a stream anew; return the last one."""
        log = self.services.log
        previous = log.hash_at(self.connection, stream, start - 1)
        assert previous is not None
        for row in list(log.rows(self.connection, stream, after=start - 1, until=end)):
            previous = chain_hash(previous, ChainedRow(*(getattr(row, name) for name in ChainedRow._fields)))
            self.write((stream, row.position), "hash", previous)
        return previous

    def set_head(self, stream: str, position: int, digest: bytes | None = None) -> None:
        self.run("UPDATE streams SET position = :to WHERE experiment_id = :stream", stream=stream, to=position)
        if digest is not None:
            self.run("UPDATE streams SET hash = :digest WHERE experiment_id = :stream", stream=stream, digest=digest)

    def changed_text(self, value: str) -> str | bytes:
        """Change one bit or one character; to what is no text any more only where the database takes it."""
        index = self.rng.randrange(len(value))
        if self.is_sqlite and self.rng.random() < 1 / 2:
            raw = bytearray(value.encode())
            raw[self.rng.randrange(len(raw))] ^= 1 << self.rng.randrange(8)
            return bytes(raw)
        others = [one for one in '0123456789abcdefXYZ _-.:{",' if one != value[index]]
        return value[:index] + self.rng.choice(others) + value[index + 1 :]


_AT = "experiment_id = :stream AND position = :position"


def record(services: Sweeps) -> None:
    """Let two experiments go through evictions, a restoration, a purge and what was lost by it."""
    x = services
    tell(x)
    x.sweep(EXPECTED_COST)
    y = Sweeps(x.services, x.clock, x.store, "y")
    y.send(
        ExperimentRegistered(
            mode="min", rung_levels=(1, 3), promotion_quantiles=(0.5, 0.5), max_resource=9, labels={"team": "vision"}
        )
    )
    for number in range(1, 7):
        trial_id = f"y{number}"
        y.send(TrialStarted(trial_id=trial_id))
        y.wait(timedelta(seconds=number))
        y.send(TrialReported(trial_id=trial_id, resource=1, metric=number / 4))
        y.pause(trial_id, metric=number / 4)
    administration = x.services.administration
    administration.set_reserve(ReserveSet(scope="label:team=vision", measure="checkpoints", amount=1))
    administration.set_reserve(ReserveSet(scope="experiment:x", measure="bytes", amount=2))
    x.limit("experiments", 8, 6)
    x.limit("experiment:y", 4, 3)
    y.sweep(EXPECTED_COST)
    x.wait(timedelta(hours=1))
    gone = [one for one in x.state().checkpoints.values() if one.state == "trashed"]
    x.resume(gone[0].trial_id)
    x.wait(2 * DAY)
    x.sweep(EXPECTED_COST)
    x.resume(gone[1].trial_id)
    kept = [one for one in y.state().checkpoints.values() if one.state == "stored"]
    y.send(CheckpointPinned(trial_id=kept[0].trial_id, uri=kept[0].uri))
    y.resume(kept[1].trial_id)
    y.send(TrialStopped(trial_id=kept[1].trial_id))
    # These come too late, and are flagged.
    y.send(*(TrialReported(trial_id=kept[1].trial_id, resource=2, metric=0.5) for _ in range(2)))
    y.send(ExperimentFinished())
    administration.pin_scope("experiment:y")
    administration.pin_scope("experiment:x")
    with TemporaryDirectory() as place:
        x.services.archiver.create("y", Path(place).as_uri(), lambda _: None)


def _complete_snapshots(services: Services) -> None:
    """Let snapshots tell all: what one tells of an entry that has changed since counts for nothing."""
    with services.database.write() as connection:
        for experiment_id in ("x", "y"):
            state = services.projector.look(connection, experiment_id)
            own = rung_snapshots.c.experiment_id == experiment_id
            for level, rung in state.rungs.items():
                complete = {"position": state.position, "body": snapshots.encode(rung.ranking())}
                connection.execute(update(rung_snapshots).where(own, rung_snapshots.c.level == level).values(complete))


@contextmanager
def recorded(url: str) -> Iterator[Recorded]:
    """Record a deployment, catch its rows up, and put away what keeps the log from being changed."""
    create_schema(url)
    with pytest.MonkeyPatch.context() as patch, sweeps_over(url) as sweeps:
        patch.setattr(snapshots, "_LEAST_CHANGED", 3)
        record(sweeps)
        services = sweeps.services
        services.queries.catch_up(["x", "y"])
        _complete_snapshots(services)
        tamper(services, [])
        found = Recorded(services, services.auditor.heads())
        assert {head.experiment_id for head in found.kept} == {"x", "y", DEPLOYMENT_STREAM}
        assert found.audit() == []
        assert found.verify() == (set(), set())
        with services.database.read() as connection:
            for table in (*EXPERIMENT_TABLES, *DEPLOYMENT_TABLES, rung_snapshots):
                assert connection.execute(table.select().limit(1)).first() is not None, table.name
        yield found

"""Appending to streams under their locks, and reading them in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, Select, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from quota.domain.events import NewEvent, RecordedEvent
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.parts import parts
from quota.errors import LogCorrupt, StreamArchived
from quota.eventlog.advisory_locks import AdvisoryLock
from quota.eventlog.chain import GENESIS, ChainedRow, chain_hash
from quota.eventlog.codec import Codec, encode
from quota.eventlog.database import NAMES_A_QUERY, Database
from quota.eventlog.same_events import named, same, two_contents
from quota.eventlog.tables import events, streams
from quota.eventlog.types import is_one_of

PAGE = 1_000

# What each append and each look asks is put together once: building a statement takes longer than running it does.
_NAME: BindParameter[str] = bindparam("name")
_HELD_HEADS = (
    select(streams)
    .where(streams.c.experiment_id.in_(bindparam("names", expanding=True)))
    .order_by(streams.c.experiment_id)
    .with_for_update()
)
_HEAD = select(streams.c.position, streams.c.hash).where(streams.c.experiment_id == _NAME)
_HASH_AT = select(events.c.hash).where(events.c.experiment_id == _NAME, events.c.position == bindparam("place"))
_ADD = insert(events)
_MOVE_HEAD = update(streams).where(streams.c.experiment_id == _NAME)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an append answers for one event.

    Attributes:
        event_id: The event.
        experiment_id: Its stream.
        position: Its position there.
        stored_before: Whether the log held it already, so that this append changed nothing.
    """

    event_id: str
    experiment_id: str
    position: int
    stored_before: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """An event that is encoded already, so that nothing is encoded under a lock."""

    event: NewEvent
    data: str

    @classmethod
    def of(cls, new: NewEvent) -> Prepared:
        """Encode `new`."""
        return cls(new, encode(new.payload))


@dataclass(slots=True)
class LockedStream:
    """A stream whose lock is held: nobody else appends to it until the transaction ends.

    Attributes:
        experiment_id: The stream.
        position: Position of its last event; 0 where it has none.
        hash: The last event's hash.
        recorded_at: When the last event was stored.
        connection: The transaction that holds the lock.
        archive_uri: Where its events are, if they are not in the log any more.
        pending: Rows that were added and are not stored yet.
    """

    experiment_id: str
    position: int
    hash: bytes
    recorded_at: datetime | None
    connection: Connection
    archive_uri: str | None = None
    pending: list[dict[str, Any]] = field(default_factory=list)


class EventLog:
    """The log in one database.

    Args:
        database: Where it lies.
        codec: How its data is read.
    """

    def __init__(self, database: Database, codec: Codec | None = None) -> None:
        self._database = database
        self._codec = codec or Codec()

    @contextmanager
    def locked(self, experiment_ids: Iterable[str], *, archived: bool = False) -> Iterator[dict[str, LockedStream]]:
        """Hold the locks of streams, taken in one order by everybody, for one transaction.

        Args:
            experiment_ids: The streams.
            archived: Whether they may be such whose events are not in the log any more.

        Raises:
            StreamArchived: the events of one of them are not.
        """
        wanted = sorted(set(experiment_ids))
        with self._database.write() as connection:
            found = self._held(connection, wanted)
            if DEPLOYMENT_STREAM in found:
                self._lock_deployment(connection, func.pg_advisory_xact_lock)
            for stream in found.values():
                if stream.archive_uri is not None and not archived:
                    raise StreamArchived(stream.experiment_id, stream.archive_uri)
            yield found

    def deployment_locked(self, connection: Connection) -> LockedStream:
        """Hold the deployment stream's lock too, in a transaction that holds those of all others that it needs."""
        stream = self._held(connection, [DEPLOYMENT_STREAM])[DEPLOYMENT_STREAM]
        self._lock_deployment(connection, func.pg_advisory_xact_lock)
        return stream

    def _lock_deployment(self, connection: Connection, lock: Callable[[int], Any]) -> None:
        if not self._database.is_sqlite:
            connection.execute(select(lock(AdvisoryLock.DEPLOYMENT)))

    def _held(self, connection: Connection, wanted: Sequence[str]) -> dict[str, LockedStream]:
        found = self._heads(connection, wanted)
        missing = [experiment_id for experiment_id in wanted if experiment_id not in found]
        if missing:
            self._open_streams(connection, missing)
            found = self._heads(connection, wanted)
        return found

    def _heads(self, connection: Connection, wanted: Sequence[str]) -> dict[str, LockedStream]:
        rows = connection.execute(_HELD_HEADS, {"names": wanted})
        return {
            row.experiment_id: LockedStream(
                row.experiment_id, row.position, row.hash, row.recorded_at, connection, row.archive_uri
            )
            for row in rows
        }

    def _open_streams(self, connection: Connection, missing: Sequence[str]) -> None:
        insert_new = (sqlite.insert if self._database.is_sqlite else postgresql.insert)(streams)
        rows = [{"experiment_id": name, "position": 0, "hash": GENESIS} for name in missing]
        connection.execute(insert_new.on_conflict_do_nothing(), rows)

    def stored_before(
        self, connection: Connection, batch: Sequence[Prepared], names: Mapping[str, str] | None = None
    ) -> dict[str, Receipt]:
        """Find which events of `batch` the log holds already, in whatever stream.

        On PostgreSQL two streams may store one id at the same moment, as no key spans the partitions: each has its
        event then, and `ckpt-quota audit verify` tells of it.

        Args:
            connection: Where to look.
            batch: The events.
            names: How to name an event in a message, by event id.

        Raises:
            IdentityRefused: one of them has other content in the log, or two of `batch` share an id and differ.
        """
        names = names or {}
        by_id: dict[str, Prepared] = {}
        for prepared in batch:
            earlier = by_id.setdefault(prepared.event.event_id, prepared)
            if not same(earlier.event, earlier.data, prepared.event, prepared.data):
                raise two_contents(prepared.event.event_id, named(prepared.event, names))
        receipts: dict[str, Receipt] = {}
        elsewhere: list[str] = []
        for some in parts(list(by_id), NAMES_A_QUERY):
            for row in connection.execute(select(events).where(is_one_of(events.c.event_id, some, connection.dialect))):
                new = by_id[row.event_id]
                if row.experiment_id != new.event.experiment_id:
                    elsewhere.append(row.event_id)
                    continue
                recorded = self.recorded(row)
                stored = NewEvent(
                    event_id=recorded.event_id,
                    experiment_id=recorded.experiment_id,
                    occurred_at=recorded.occurred_at,
                    actor=recorded.actor,
                    payload=recorded.payload,
                )
                if not same(stored, encode(stored.payload), new.event, new.data):
                    raise two_contents(new.event.event_id, named(new.event, names))
                receipts[row.event_id] = Receipt(row.event_id, row.experiment_id, row.position, stored_before=True)
        for event_id in elsewhere:
            if event_id not in receipts:
                raise two_contents(event_id, named(by_id[event_id].event, names))
        return receipts

    def add(self, stream: LockedStream, prepared: Prepared) -> RecordedEvent:
        """Number an event that belongs to `stream` and is new. `flush` stores what was added."""
        new = prepared.event
        if not stream.pending:
            now = self._database.now(stream.connection)
            stream.recorded_at = now if stream.recorded_at is None else max(now, stream.recorded_at)
        recorded_at = stream.recorded_at or new.occurred_at
        stream.position += 1
        row = ChainedRow(
            experiment_id=stream.experiment_id,
            position=stream.position,
            event_id=new.event_id,
            type=new.payload.TYPE,
            schema_version=new.payload.SCHEMA_VERSION,
            trial_id=new.payload.about_trial,
            occurred_at=new.occurred_at,
            recorded_at=recorded_at,
            actor=new.actor,
            data=prepared.data,
        )
        stream.hash = chain_hash(stream.hash, row)
        stream.pending.append({**row._asdict(), "hash": stream.hash})
        return RecordedEvent(
            event_id=new.event_id,
            experiment_id=new.experiment_id,
            position=stream.position,
            occurred_at=new.occurred_at,
            recorded_at=recorded_at,
            actor=new.actor,
            payload=new.payload,
        )

    @staticmethod
    def flush(stream: LockedStream) -> None:
        """Store what was added to `stream`, in its transaction.

        Raises:
            LogCorrupt: the stream has events beyond its head.
        """
        if not stream.pending:
            return
        try:
            stream.connection.execute(_ADD, stream.pending)
        except IntegrityError as error:
            first = stream.pending[0]["position"]
            raise LogCorrupt(
                f"event {first} of {stream.experiment_id}: it is stored, beyond the stream's head; somebody moved that "
                "back: `ckpt-quota audit verify` names where"
            ) from error
        stream.connection.execute(
            _MOVE_HEAD,
            {
                "name": stream.experiment_id,
                "position": stream.position,
                "hash": stream.hash,
                "recorded_at": stream.recorded_at,
            },
        )
        stream.pending.clear()

    def read(
        self, connection: Connection, experiment_id: str, *, after: int = 0, until: int | None = None
    ) -> Iterator[RecordedEvent]:
        """Yield a stream's events in order, from position `after` (excluded) to `until` (included)."""
        for row in self.rows(connection, experiment_id, after=after, until=until):
            yield self.recorded(row)

    def last_of_trial(
        self, connection: Connection, experiment_id: str, trial_id: str, type_name: str
    ) -> Iterator[RecordedEvent]:
        """Yield a trial's events of one type, newest first, at most a page of them."""
        query = select(events).where(
            events.c.experiment_id == experiment_id, events.c.trial_id == trial_id, events.c.type == type_name
        )
        for row in connection.execute(query.order_by(events.c.position.desc()).limit(PAGE)):
            yield self.recorded(row)

    def of_trials(
        self, connection: Connection, experiment_id: str, trial_ids: Sequence[str], types: Collection[str]
    ) -> Iterator[RecordedEvent]:
        """Yield the events of some types about some trials, those of each trial in order."""
        for some in parts(trial_ids, PAGE):
            query = select(events).where(
                events.c.experiment_id == experiment_id,
                events.c.trial_id.in_(some),
                events.c.type.in_(types),
            )
            for row in connection.execute(query.order_by(events.c.position)):
                yield self.recorded(row)

    def of_no_trial(self, connection: Connection, experiment_id: str) -> Iterator[RecordedEvent]:
        """Yield a stream's events that are about no trial, in order."""
        query = select(events).where(events.c.experiment_id == experiment_id, events.c.trial_id.is_(None))
        for row in connection.execute(query.order_by(events.c.position)):
            yield self.recorded(row)

    def of_type(
        self, connection: Connection, experiment_id: str, type_name: str, *, after: int = 0
    ) -> Iterator[RecordedEvent]:
        """Yield a stream's events of one type, in order, from position `after` (excluded)."""
        for row in self.rows(connection, experiment_id, after=after, type_name=type_name):
            yield self.recorded(row)

    def rows(
        self,
        connection: Connection,
        experiment_id: str,
        *,
        after: int = 0,
        until: int | None = None,
        type_name: str | None = None,
    ) -> Iterator[Row[Any]]:
        """Yield a stream's rows in order, page by page; all of them, or those of one type."""
        while True:
            query: Select[Any] = (
                select(events)
                .where(events.c.experiment_id == experiment_id, events.c.position > after)
                .order_by(events.c.position)
                .limit(PAGE)
            )
            if until is not None:
                query = query.where(events.c.position <= until)
            if type_name is not None:
                query = query.where(events.c.type == type_name)
            page = connection.execute(query).all()
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].position

    def heads(self, connection: Connection) -> list[tuple[str, int, bytes]]:
        """Return (experiment_id, position, hash) of all streams, by id."""
        query = select(streams.c.experiment_id, streams.c.position, streams.c.hash)
        return [
            (row.experiment_id, row.position, row.hash)
            for row in connection.execute(query.order_by(streams.c.experiment_id))
        ]

    def head(self, connection: Connection, experiment_id: str) -> tuple[int, bytes]:
        """Return (position, hash) of a stream's last event."""
        row = connection.execute(_HEAD, {"name": experiment_id}).first()
        return (0, GENESIS) if row is None else (row.position, row.hash)

    def hash_at(self, connection: Connection, experiment_id: str, position: int) -> bytes | None:
        """Return the hash of one event; None where there is no such event."""
        if position == 0:
            return GENESIS
        return connection.execute(_HASH_AT, {"name": experiment_id, "place": position}).scalar()

    def held_deployment(self, connection: Connection) -> tuple[int, bytes]:
        """Return (position, hash) of the deployment stream's last event, and keep others from appending to it.

        That lasts as long as the connection's transaction; other readers may hold the stream at the same time. Whoever
        needs further streams' locks takes those first.
        """
        self._lock_deployment(connection, func.pg_advisory_xact_lock_shared)
        return self.head(connection, DEPLOYMENT_STREAM)

    def last_recorded_at(self, connection: Connection) -> datetime | None:
        """Return when the last event of any stream was stored; None where there is none."""
        moment: datetime | None = connection.execute(select(func.max(streams.c.recorded_at))).scalar()
        return moment

    def last_of_type(self, connection: Connection, experiment_id: str, type_name: str) -> RecordedEvent | None:
        """Return a stream's last event of one type; None where it has none. Reads the stream backwards until then."""
        query = select(events).where(events.c.experiment_id == experiment_id, events.c.type == type_name)
        row = connection.execute(query.order_by(events.c.position.desc()).limit(1)).first()
        return None if row is None else self.recorded(row)

    def position(self, connection: Connection, experiment_id: str) -> int:
        """Return the position of a stream's last event; 0 where there is none."""
        return self.head(connection, experiment_id)[0]

    def recorded(self, row: Any) -> RecordedEvent:  # noqa: ANN401 - a row of the database, or one of an archive
        """Return the event that a row of the log holds.

        Raises:
            LogCorrupt: its data cannot be read.
        """
        try:
            payload = self._codec.decode(row.type, row.schema_version, row.data)
        except LogCorrupt as error:
            raise LogCorrupt(f"event {row.position} of {row.experiment_id}: {error}") from error
        return RecordedEvent(
            event_id=row.event_id,
            experiment_id=row.experiment_id,
            position=row.position,
            occurred_at=row.occurred_at,
            recorded_at=row.recorded_at,
            actor=row.actor,
            payload=payload,
        )

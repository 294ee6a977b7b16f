"""A thousand random tamperings: whatever is done to a log or to its rows is found, and the first bad place is named."""

from __future__ import annotations

import json
from datetime import timedelta
from math import isfinite
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Boolean, Double, Table, Text, delete, insert, select, update

from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.domain.ranking import NOBODY
from quota.eventlog.tables import events
from quota.eventlog.types import Instant, JsonText, UuidText
from quota.projections import snapshots
from quota.projections.tables import DEPLOYMENT_TABLES, EXPERIMENT_TABLES, rung_snapshots
from quota.services.ids import new_id
from support import START
from tampering import CHAINED, Hand, Place, Recorded, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _pytest.fixtures import SubRequest
    from sqlalchemy import ColumnElement

Named = set[Place]
"""The places that an audit against the kept heads must name: the first bad one of each stream that is touched."""


def alter(column: str) -> Callable[[Hand], Named]:
    """Change one bit or one character of a column of a random row."""

    def done(hand: Hand) -> Named:
        place = hand.place()
        hand.write(place, column, _altered(hand, place, column))
        return {place}

    return done


def _altered(hand: Hand, place: Place, column: str) -> object:
    value, rng = hand.written(place, column), hand.rng
    if column == "hash":
        return _with_one_bit_changed(value, rng)
    if value is None:
        return rng.choice("0xy")
    kind = events.c[column].type
    if column == "schema_version":
        altered = int(value) ^ 1 << rng.randrange(31)
        return altered if hand.is_sqlite else str(altered)
    if hand.is_sqlite:
        return hand.changed_text(value)
    if isinstance(kind, Instant):
        # To the microsecond, as far as it goes.
        return value.replace(value[:4], str(int(value[:4]) + rng.choice([-1, 1, 20])), 1)
    while True:
        altered_text = hand.changed_text(value)
        assert isinstance(altered_text, str)
        if _is_accepted(column, altered_text):
            return altered_text


def _is_accepted(column: str, value: str) -> bool:
    """Tell whether PostgreSQL takes a text for a column's type, as another value than it was."""
    kind = events.c[column].type
    if isinstance(kind, UuidText):
        return len(value.replace("-", "")) == 32 and set(value) <= set("0123456789abcdef-") and value.count("-") == 4
    if isinstance(kind, JsonText):
        try:
            json.loads(value)
        except ValueError:
            return False
    return True


def _with_one_bit_changed(value: bytes, rng: Random) -> bytes:
    changed = bytearray(value)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def rename_stream(hand: Hand) -> Named:
    """Change a character of a row's stream: it is one that nobody has opened then."""
    (stream, position), other = hand.place(), f"{hand.rng.randrange(10)}"
    hand.move((stream, position), (other, position))
    return {(stream, position), (other, 0)}


def change_position(hand: Hand) -> Named:
    """Change a bit of a row's position, to one that is free."""
    stream, position = hand.place()
    others = [position ^ 1 << bit for bit in range(31)]
    other = hand.rng.choice([one for one in others if not 0 < one <= hand.lengths[stream]])
    hand.move((stream, position), (stream, other))
    return {(stream, min(position, other))}


def negate_position(hand: Hand) -> Named:
    stream, position = hand.place()
    hand.move((stream, position), (stream, -position))
    return {(stream, -position)}


def drop_any(hand: Hand) -> Named:
    place = hand.place()
    hand.drop(place)
    return {place}


def drop_first(hand: Hand) -> Named:
    place = hand.stream(), 1
    hand.drop(place)
    return {place}


def drop_last(hand: Hand) -> Named:
    stream = hand.stream()
    place = stream, hand.lengths[stream]
    hand.drop(place)
    return {place}


def drop_last_with_head(hand: Hand) -> Named:
    stream = hand.stream()
    last = hand.lengths[stream]
    hand.drop((stream, last))
    hand.set_head(stream, last - 1, hand.services.log.hash_at(hand.connection, stream, last - 1))
    return {(stream, last)}


def drop_and_renumber(hand: Hand) -> Named:
    """Close the gap: what follows has other positions than its hashes cover."""
    stream, position = hand.place()
    hand.drop((stream, position))
    hand.renumber(stream, after=position, by=-1)
    return {(stream, position)}


def insert_in_the_middle(hand: Hand) -> Named:
    """Make room for a row with a hash from elsewhere; its head moved or not."""
    stream, position = hand.place()
    hand.renumber(stream, after=position - 1, by=1)
    hand.copy((stream, position + 1), (stream, position))
    if hand.rng.random() < 1 / 2:
        hand.set_head(stream, hand.lengths[stream] + 1)
    return {(stream, position)}


def insert_in_the_middle_chained(hand: Hand) -> Named:
    """Make room for a row whose hash is right: the one after it is the first that is wrong."""
    stream, position = hand.place()
    hand.renumber(stream, after=position - 1, by=1)
    hand.copy((stream, position + 1), (stream, position))
    hand.chain(stream, position, position)
    if hand.rng.random() < 1 / 2:
        hand.set_head(stream, hand.lengths[stream] + 1)
    return {(stream, position + 1 if position < hand.lengths[stream] else hand.lengths[stream])}


def insert_at_the_end(hand: Hand) -> Named:
    """Add a row that no head tells of, whether its hash is right or not."""
    stream, position = hand.place()
    end = hand.lengths[stream] + 1
    hand.copy((stream, position), (stream, end))
    if hand.rng.random() < 1 / 2:
        hand.chain(stream, end, end)
    return {(stream, end)}


def insert_at_the_end_with_head(hand: Hand) -> Named:
    """Add a row, and let the head tell of it, without its hash being right."""
    stream, position = hand.place()
    end = hand.lengths[stream] + 1
    hand.copy((stream, position), (stream, end))
    hand.set_head(stream, end, hand.written((stream, end), "hash"))
    return {(stream, end)}


def insert_before_the_first(hand: Hand) -> Named:
    stream, position = hand.place()
    before = -hand.rng.randrange(3)
    hand.copy((stream, position), (stream, before))
    return {(stream, before)}


def insert_elsewhere(hand: Hand) -> Named:
    """Add a row to a stream that does not exist."""
    place = hand.place()
    hand.copy(place, ("z", 1))
    return {("z", 0)}


def swap_positions(hand: Hand) -> Named:
    stream, first, second = hand.two_places()
    hand.swap(stream, first, second)
    return {(stream, first)}


def swap_contents(hand: Hand) -> Named:
    """Let each have the other's content, and keep its own hash."""
    stream, first, second = hand.two_places()
    hashes = {position: hand.written((stream, position), "hash") for position in (first, second)}
    hand.swap(stream, first, second)
    for position, digest in hashes.items():
        hand.write((stream, position), "hash", digest)
    return {(stream, first)}


def swap_hashes(hand: Hand) -> Named:
    stream, first, second = hand.two_places()
    hashes = [hand.written((stream, position), "hash") for position in (second, first)]
    for position, digest in zip((first, second), hashes, strict=True):
        hand.write((stream, position), "hash", digest)
    return {(stream, first)}


def move_to_another_end(hand: Hand) -> Named:
    """Take a row to the end of another stream, leaving a gap or closing it."""
    place = stream, position = hand.place()
    other = hand.rng.choice([one for one in sorted(hand.lengths) if one != stream])
    end = hand.lengths[other] + 1
    hand.move(place, (other, end))
    if hand.rng.random() < 1 / 2:
        hand.renumber(stream, after=position, by=-1)
    return {place, (other, end)}


def move_into_another(hand: Hand) -> Named:
    place = stream, position = hand.place()
    other = hand.rng.choice([one for one in sorted(hand.lengths) if one != stream])
    there = hand.rng.randint(1, hand.lengths[other])
    hand.renumber(other, after=there - 1, by=1)
    hand.move(place, (other, there))
    if hand.rng.random() < 1 / 2:
        hand.renumber(stream, after=position, by=-1)
    return {place, (other, there)}


def rewrite(hand: Hand) -> Named:
    """Change a row, and compute all hashes after it anew: the heads that the database has fit.

    The chain holds, so nothing in it tells which row was changed: what is named is the place of the kept head.
    """
    stream, position = hand.place()
    _change_actor(hand, (stream, position))
    end = hand.lengths[stream]
    hand.set_head(stream, end, hand.chain(stream, position, end))
    return {(stream, end)}


def rewrite_in_part(hand: Hand) -> Named:
    """Stop before the end: the row after the last hash that was made anew is named."""
    stream, first, second = hand.two_places()
    _change_actor(hand, (stream, first))
    hand.chain(stream, first, second - 1)
    return {(stream, second)}


def rewrite_without_head(hand: Hand) -> Named:
    stream, position = hand.place()
    _change_actor(hand, (stream, position))
    hand.chain(stream, position, hand.lengths[stream])
    return {(stream, hand.lengths[stream])}


def _change_actor(hand: Hand, place: Place) -> None:
    hand.write(place, "actor", "nobody")


def rewrite_without_a_row(hand: Hand) -> Named:
    """Leave a row out, and compute all anew: the stream is too short for the kept head."""
    stream, position = hand.place()
    end = hand.lengths[stream]
    hand.drop((stream, position))
    hand.renumber(stream, after=position, by=-1)
    hand.set_head(stream, end - 1, hand.chain(stream, position, end - 1))
    return {(stream, end)}


def rewrite_with_a_row_more(hand: Hand) -> Named:
    """Put a row between, and compute all anew: where the kept head was, there is another hash."""
    stream, position = hand.place()
    end = hand.lengths[stream]
    hand.renumber(stream, after=position - 1, by=1)
    hand.copy((stream, position + 1), (stream, position))
    hand.set_head(stream, end + 1, hand.chain(stream, position, end + 1))
    return {(stream, end)}


def remove_stream(hand: Hand) -> Named:
    stream = hand.stream()
    hand.run("DELETE FROM events WHERE experiment_id = :stream", stream=stream)
    hand.run("DELETE FROM streams WHERE experiment_id = :stream", stream=stream)
    return {(stream, 1)}


def remove_head(hand: Hand) -> Named:
    stream = hand.stream()
    if hand.rng.random() < 1 / 2:
        hand.run("DELETE FROM streams WHERE experiment_id = :stream", stream=stream)
    else:
        hand.set_head(stream, 0)
    return {(stream, 0)}


def set_head_back(hand: Hand) -> Named:
    """Let a head hide what follows: the first row that it does not tell of is named."""
    stream, position, _ = hand.two_places()
    hand.set_head(stream, position, hand.services.log.hash_at(hand.connection, stream, position))
    return {(stream, position + 1)}


def set_head_on(hand: Hand) -> Named:
    stream = hand.stream()
    end = hand.lengths[stream]
    hand.set_head(stream, end + hand.rng.randint(1, 9))
    return {(stream, end + 1)}


def change_head(hand: Hand) -> Named:
    stream = hand.stream()
    end = hand.lengths[stream]
    hand.set_head(stream, end, _with_one_bit_changed(hand.written((stream, end), "hash"), hand.rng))
    return {(stream, end)}


KINDS: dict[str, tuple[Callable[[Hand], Named], int]] = {
    **{
        f"{name} altered": (alter(name), 60 if name == "data" else 25)
        for name in CHAINED
        if name not in {"experiment_id", "position"}
    },
    **{
        kind.__name__: (kind, 12)
        for kind in (
            rename_stream,
            change_position,
            negate_position,
            drop_any,
            drop_first,
            drop_last,
            drop_last_with_head,
            drop_and_renumber,
            insert_in_the_middle,
            insert_in_the_middle_chained,
            insert_at_the_end,
            insert_at_the_end_with_head,
            insert_before_the_first,
            insert_elsewhere,
            swap_positions,
            swap_contents,
            swap_hashes,
            move_to_another_end,
            move_into_another,
            rewrite,
            rewrite_in_part,
            rewrite_without_head,
            rewrite_without_a_row,
            rewrite_with_a_row_more,
            remove_stream,
            remove_head,
            set_head_back,
            set_head_on,
            change_head,
        )
    },
}
"""Each kind of tampering with the log, and how often it is done on SQLite; on PostgreSQL once."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def deployment(request: SubRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """One deployment for all, as each undoes what it does."""
    if request.param == "sqlite":
        with recorded(f"sqlite:///{tmp_path_factory.mktemp('tampering') / 'quota.db'}") as found:
            yield found
    else:
        with request.getfixturevalue("postgresql_server").database() as url, recorded(url) as found:
            yield found


@pytest.mark.parametrize("kind", KINDS)
def test_tampering_with_the_log_is_found_and_the_place_named(deployment: Recorded, kind: str) -> None:
    tampering, times = KINDS[kind]
    for number in range(times if deployment.services.database.is_sqlite else 1):
        seed = f"{kind} {number}"
        with deployment.hand(seed) as hand:
            expected = tampering(hand)
            faults = deployment.audit()
        assert {(fault.experiment_id, fault.position) for fault in faults} == expected, (seed, faults)
    assert deployment.audit() == []


def test_what_is_appended_as_the_product_does_it_is_no_fault(deployment: Recorded) -> None:
    """Nothing tells an append from that of somebody who writes the row, its right hash and the head."""
    with deployment.hand(0) as hand:
        end = hand.lengths["x"] + 1
        hand.copy(("x", 1), ("x", end))
        hand.set_head("x", end, hand.chain("x", end, end))
        assert deployment.audit() == []


TABLES = {table.name: table for table in (*EXPERIMENT_TABLES, *DEPLOYMENT_TABLES)}


def one_row(hand: Hand, table: Table) -> dict[str, Any]:
    """Choose a row."""
    rows = [dict(row) for row in hand.connection.execute(select(table)).mappings()]
    return hand.rng.choice(sorted(rows, key=repr))


def key_of(table: Table, row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in table.primary_key)


def is_row(table: Table, row: dict[str, Any]) -> list[ColumnElement[bool]]:
    return [column == row[column.name] for column in table.primary_key]


def other_value(hand: Hand, table: Table, column: str, value: Any) -> Any:  # noqa: ANN401 - whatever the column holds
    """Return another value: of a text one character changed, of a time a microsecond."""
    kind, rng = table.c[column].type, hand.rng
    if isinstance(kind, Instant):
        return START if value is None else value + timedelta(microseconds=rng.choice([-1, 1]))
    if isinstance(kind, Boolean):
        return not value
    if isinstance(kind, Double):
        return 0.125 if value is None or not isfinite(value) else value + rng.choice([-1, 1]) / 8
    if isinstance(kind, UuidText):
        return (
            new_id()
            if value is None
            else value[:-1] + rng.choice([one for one in "0123456789abcdef" if one != value[-1]])
        )
    if isinstance(kind, JsonText):
        return "[]" if value is None else f"{value} "
    if isinstance(kind, Text):
        index = rng.randrange(len(value)) if value else 0
        return (value or "")[:index] + rng.choice("0129") * 2 + (value or "")[index + 1 :]
    return 1 if value is None else value + (1000 if table.c[column].primary_key else rng.choice([-1, 1, 1000]))


@pytest.mark.parametrize("name", TABLES)
def test_a_column_of_a_row_that_was_changed_is_found(deployment: Recorded, name: str) -> None:
    table = TABLES[name]
    columns = [column.name for column in table.c]
    if not deployment.services.database.is_sqlite:
        columns = [columns[len(name) % len(columns)]]
    for number, column in enumerate(columns * 2):
        seed = f"{name} {column} {number}"
        with deployment.hand(seed) as hand:
            row = one_row(hand, table)
            value = other_value(hand, table, column, row[column])
            hand.connection.execute(update(table).where(*is_row(table, row)).values({column: value}))
            rows, failed = deployment.verify()
        expected = {(name, key_of(table, row)), (name, key_of(table, row | {column: value}))}
        assert expected <= rows, (seed, row, value, rows, failed)
    assert deployment.verify() == (set(), set())


@pytest.mark.parametrize("name", TABLES)
def test_a_row_that_was_removed_or_added_is_found(deployment: Recorded, name: str) -> None:
    """Added, too, in the name of an experiment that does not exist, or of the deployment."""
    table = TABLES[name]
    owners = ["x", "y", "z", DEPLOYMENT_STREAM] if "experiment_id" in table.c else []
    for number in range(10 if deployment.services.database.is_sqlite else 2):
        seed = f"{name} {number}"
        with deployment.hand(seed) as hand:
            row = one_row(hand, table)
            if number % 2:
                row = added(hand, table, row, owners)
                hand.connection.execute(insert(table).values(row))
            else:
                hand.connection.execute(delete(table).where(*is_row(table, row)))
            rows, failed = deployment.verify()
        assert (name, key_of(table, row)) in rows, (seed, row, rows, failed)
        assert failed == set(), seed
    assert deployment.verify() == (set(), set())


def added(hand: Hand, table: Table, row: dict[str, Any], owners: list[str]) -> dict[str, Any]:
    """Return a row like another that is not there yet."""
    keys = [column.name for column in table.primary_key]
    if owners:
        row = row | {"experiment_id": hand.rng.choice(owners if len(keys) > 1 else owners[2:])}
    if keys != ["experiment_id"]:
        name = keys[-1]
        row = row | {name: other_value(hand, table, name, row[name])}
    return row


def snapshot_bit(hand: Hand, row: dict[str, Any]) -> dict[str, Any]:
    """Change a bit of what a snapshot says."""
    return {"body": _with_one_bit_changed(row["body"], hand.rng)}


def snapshot_ahead(hand: Hand, row: dict[str, Any]) -> dict[str, Any]:
    """Let a snapshot tell of what has not happened: what does happen then would not count."""
    return {"position": row["position"] + hand.rng.randint(1, 9)}


def snapshot_of_another_rung(hand: Hand, row: dict[str, Any]) -> dict[str, Any]:
    return {"level": row["level"] + hand.rng.randint(10, 19), "body": snapshots.encode(NOBODY)}


def snapshot_of_another_experiment(hand: Hand, _: dict[str, Any]) -> dict[str, Any]:
    return {"experiment_id": hand.rng.choice(["z", DEPLOYMENT_STREAM])}


SNAPSHOT_KINDS = (snapshot_bit,) * 8 + (snapshot_ahead, snapshot_of_another_rung, snapshot_of_another_experiment)


def test_a_snapshot_that_was_changed_is_found(deployment: Recorded) -> None:
    """One that is removed is no fault: without it the rows say the same."""
    for number in range(66 if deployment.services.database.is_sqlite else 11):
        kind = SNAPSHOT_KINDS[number % len(SNAPSHOT_KINDS)]
        with deployment.hand(number) as hand:
            row = one_row(hand, rung_snapshots)
            changed = kind(hand, row)
            where = is_row(rung_snapshots, row)
            hand.connection.execute(update(rung_snapshots).where(*where).values(changed))
            rows, failed = deployment.verify()
        named = {("rung_snapshots", key[:2]) for table, key in rows if table == "rung_snapshots"}
        named |= {("rung_snapshots", (stream, row["level"])) for stream in failed}
        assert ("rung_snapshots", key_of(rung_snapshots, row | changed)) in named, (number, kind, rows, failed)
    with deployment.hand(0) as hand:
        hand.run("DELETE FROM rung_snapshots")
        assert deployment.verify() == (set(), set())


def test_a_position_that_rows_do_not_reflect_is_found(deployment: Recorded) -> None:
    for number in range(24 if deployment.services.database.is_sqlite else 4):
        with deployment.hand(number) as hand:
            stream = hand.stream()
            by = hand.rng.randint(1, 9)
            if number % 4 == 0:
                hand.run("UPDATE projected_streams SET position = position + :by", by=by)
                assert deployment.verify()[1] == set(hand.lengths), number
            elif number % 4 == 1:
                hand.run(
                    "UPDATE projected_streams SET position = position - :by WHERE experiment_id = :of", by=by, of=stream
                )
                assert deployment.verify()[0], (number, stream, by)
            elif number % 4 == 2:
                hand.run("DELETE FROM projected_streams WHERE experiment_id = :of", of=stream)
                assert deployment.verify()[0], (number, stream)
            else:
                hand.run("INSERT INTO projected_streams (experiment_id, position) VALUES ('z', :by)", by=by)
                assert deployment.verify() == (set(), {"z"}), number


def test_a_time_in_a_row_that_is_spelled_otherwise_is_found(deployment: Recorded) -> None:
    """SQLite keeps times as text."""
    if not deployment.services.database.is_sqlite:
        return
    times = [
        (table, column.name) for table in TABLES.values() for column in table.c if isinstance(column.type, Instant)
    ]
    for number, (table, column) in enumerate(times * 2):
        with deployment.hand(number) as hand:
            values = hand.run(f"SELECT rowid, {column} FROM {table.name} WHERE {column} IS NOT NULL")
            if not values:
                continue
            rowid, written = hand.rng.choice(values)
            changed = written.replace("T", " ") if number % 2 else written[:-1] + "0"
            hand.run(f"UPDATE {table.name} SET {column} = :v WHERE rowid = :rowid", v=changed, rowid=rowid)
            assert deployment.verify()[1], (table.name, column, changed)

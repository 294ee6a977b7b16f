"""The hash chain finds what somebody did behind the log's back, and names the first place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from bad_input import event, experiment, send
from quota.eventlog.verifying import Fault
from quota.services.heads import Head
from support import rehash, tamper

if TYPE_CHECKING:
    from quota.bootstrap import Services

EVENTS = 9
CHANGED = "the event was changed, or its hash was, or one before it was replaced"
UNCHAINED = "the event belongs to no chain: the head says"
REWRITTEN = "its hash is not the head's: the stream was rewritten"
TAMPERINGS = {
    "data changed": (['UPDATE events SET data = \'{"trial_id":"8"}\' WHERE position = 4'], 4, CHANGED),
    "actor changed": (["UPDATE events SET actor = 'nobody' WHERE position = 7"], 7, CHANGED),
    "first changed": (["UPDATE events SET actor = 'nobody' WHERE position = 1"], 1, CHANGED),
    "last changed": (["UPDATE events SET type = 'trial_failed' WHERE position = 9"], 9, CHANGED),
    "hash changed": (["UPDATE events SET hash = (SELECT hash FROM streams) WHERE position = 5"], 5, CHANGED),
    "dropped": (["DELETE FROM events WHERE position = 3"], 3, "the event is missing; 4 follows"),
    "last dropped": (["DELETE FROM events WHERE position = 9"], 9, "the event is missing; the head says 9"),
    "two swapped": (
        [
            "UPDATE events SET position = 99 WHERE position = 4",
            "UPDATE events SET position = 4 WHERE position = 5",
            "UPDATE events SET position = 5 WHERE position = 99",
        ],
        4,
        CHANGED,
    ),
    "taken before the first": (["UPDATE events SET position = -4 WHERE position = 4"], -4, f"{UNCHAINED} 9"),
    "head set back": (["UPDATE streams SET position = 7"], 8, f"{UNCHAINED} 7"),
    "head set on": (["UPDATE streams SET position = 10"], 10, "the event is missing; the head says 10"),
    "hash of the head changed": (
        ["UPDATE streams SET hash = (SELECT hash FROM events WHERE position = 3)"],
        9,
        REWRITTEN,
    ),
}
UNREADABLE = {
    "no time": ("occurred_at = '2026-13-01T00:00:00.000000Z'", "month must be in 1..12"),
    "a time without its zone": ("occurred_at = substr(occurred_at, 1, 26) || '0'", "a time is written"),
    "a time that sorts elsewhere": ("recorded_at = replace(recorded_at, 'T', ' ')", "a time is written"),
    "bytes for a time": ("recorded_at = x'00'", "argument must be str"),
    "no text": ("actor = CAST(x'ff' AS TEXT)", "Could not decode to UTF-8"),
}


def fill(services: Services) -> Head:
    reports = [event("trial_reported", {"trial_id": "7", "resource": n, "metric": n / 3}) for n in range(1, EVENTS - 1)]
    send(services, *reports)
    (head,) = services.auditor.heads()
    assert head.position == EVENTS
    assert services.auditor.verify(head, lambda _: None) is None
    return head


@pytest.mark.parametrize(("statements", "position", "reason"), TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_tampering_is_found(database_url: str, statements: list[str], position: int, reason: str) -> None:
    with experiment(database_url) as services:
        head = fill(services)
        tamper(services, statements)
        assert services.auditor.verify(head, lambda _: None) == Fault("one", position, reason)


def test_rewritten_stream_is_found_by_a_head_that_was_kept(database_url: str) -> None:
    with experiment(database_url) as services:
        kept = fill(services)
        tamper(services, ["UPDATE events SET actor = 'nobody' WHERE position = 6"])
        rehash(services, "one")
        (own,) = services.auditor.heads()
        assert services.auditor.verify(own, lambda _: None) is None
        fault = services.auditor.verify(kept, lambda _: None)
        assert fault == Fault("one", EVENTS, REWRITTEN)


@pytest.mark.parametrize("head", ["", "UPDATE streams SET position = 10"])
def test_an_event_that_was_added_behind_a_kept_head_is_found(database_url: str, head: str) -> None:
    with experiment(database_url) as services:
        kept = fill(services)
        columns = "type, schema_version, trial_id, occurred_at, recorded_at, actor, data, hash"
        added = (
            f"INSERT INTO events (experiment_id, position, event_id, {columns}) SELECT experiment_id, 10,"
            f" '01990000-0000-7000-8000-000000000001', {columns} FROM events WHERE position = 9"
        )
        tamper(services, [added, *filter(None, [head])])
        reason = CHANGED if head else f"{UNCHAINED} 9"
        assert services.auditor.verify(kept, lambda _: None) == Fault("one", 10, reason)


def test_what_was_appended_after_a_head_was_kept_is_verified(database_url: str) -> None:
    with experiment(database_url) as services:
        kept = fill(services)
        send(services, event("trial_reported", {"trial_id": "7", "resource": 8, "metric": 0.5}))
        assert services.auditor.verify(kept, lambda _: None) is None
        tamper(services, ["UPDATE events SET actor = 'nobody' WHERE position = 10"])
        assert services.auditor.verify(kept, lambda _: None) == Fault("one", 10, CHANGED)


@pytest.mark.parametrize(("change", "said"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_event_that_cannot_be_read_is_named(sqlite_url: str, change: str, said: str) -> None:
    with experiment(sqlite_url) as services:
        head = fill(services)
        tamper(services, [f"UPDATE events SET {change.replace(':', chr(92) + ':')} WHERE position = 6"])
        fault = services.auditor.verify(head, lambda _: None)
        assert fault is not None
        assert (fault.position, fault.reason.partition(": ")[0]) == (6, "the event was changed")
        assert said in fault.reason


@pytest.mark.parametrize("removal", ["DELETE FROM streams", "UPDATE streams SET position = 0"])
def test_stream_without_a_head_is_found(database_url: str, removal: str) -> None:
    with experiment(database_url) as services:
        fill(services)
        with services.database.write() as connection:
            connection.execute(text(removal))
        assert services.auditor.heads() == []
        assert services.auditor.orphans() == ["one"]

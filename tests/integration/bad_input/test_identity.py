"""BAD_INPUT, Identity."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bad_input import (
    REGISTERED,
    assert_refused,
    contents,
    event,
    experiment,
    line,
    refused_line,
    send,
    stored_types,
)
from quota.client import ExperimentHandle
from quota.domain.wire import MAX_EVENT_BYTES
from quota.errors import BadInput, IdentityRefused, PathRefused
from quota.services.ingesting import parse_line

STARTED = {"trial_id": "7"}
BAD_IDS = {
    "empty": ("", "an id must not be empty or blank"),
    "blank": ("  ", "an id must not be empty or blank"),
    "blank at the end": ("a ", "an id must not begin or end with a blank"),
    "too long": ("é" * 101, "an id has at most 200 bytes of UTF-8, this one has 202"),
    "nul": ("a\0b", "character 2 (U+0000) is a control character; remove it"),
    "control": ("a\x1b[2J", "character 2 (U+001B) is a control character; remove it"),
    "newline": ("a\nb", "character 2 (U+000A) is a control character; remove it"),
    "bidirectional": (
        "a\u202eb",
        "character 2 (U+202E) is an invisible or bidirectional formatting character; remove it",
    ),
    "invisible": ("a\u200bb", "character 2 (U+200B) is an invisible or bidirectional formatting character; remove it"),
    "lone surrogate": ("a\ud800", "character 2 (U+D800) is a lone surrogate; remove it"),
    "not NFC": (
        "e\u0301",
        "an id must be in Unicode normal form C, or two ids could look the same; normalise it (NFC)",
    ),
    "reserved stream": ("_deployment", "this name is reserved; choose another"),
    "reserved folder": (".trash", "this name is reserved; choose another"),
    "dots": ("..", "this name is reserved; choose another"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD_IDS.values(), ids=BAD_IDS.keys())
def test_id_is_refused(bad: str, reason: str) -> None:
    for sent, field in (
        (event("trial_started", STARTED, experiment_id=bad), "experiment_id"),
        (event("trial_started", {"trial_id": bad}), "data.trial_id"),
    ):
        error = refused_line(IdentityRefused, line(sent))
        assert (error.field, error.value, error.reason) == (field, bad, reason)


@pytest.mark.parametrize(("bad", "reason"), BAD_IDS.values(), ids=BAD_IDS.keys())
def test_id_is_refused_by_the_python_api(sqlite_url: str, bad: str, reason: str) -> None:
    with experiment(sqlite_url) as services:
        before = contents(services)
        for handle, trial_id in (
            (ExperimentHandle(services, "tester", "one"), bad),
            (ExperimentHandle(services, "tester", bad), "8"),
        ):
            with pytest.raises(IdentityRefused) as caught:
                handle.trial_started(trial_id)
            assert caught.value.reason == reason
        assert contents(services) == before


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
@pytest.mark.parametrize(
    ("type_name", "data"),
    [
        ("trial_failed", lambda text: {"trial_id": "7", "error": text}),
        ("trial_started", lambda text: {"trial_id": "8", "config": {"note": text}}),
        ("trial_started", lambda text: {"trial_id": "8", "config": {text: 1}}),
        ("experiment_registered", lambda text: REGISTERED | {"labels": {"team": text}}),
        ("checkpoint_missing", lambda text: {"trial_id": "7", "uri": f"file:///{text}"}),
    ],
)
def test_text_that_no_database_keeps_is_refused(type_name: str, data: Any, text: str) -> None:  # noqa: ANN401
    kind = PathRefused if type_name == "checkpoint_missing" else IdentityRefused
    error = refused_line(kind, line(event(type_name, data(text))))
    assert "U+0000" in error.reason or "U+D800" in error.reason


def test_error_text_of_several_lines_is_kept() -> None:
    new = parse_line(line(event("trial_failed", {"trial_id": "7", "error": "Traceback:\n\tline 1"})), 1, "tester")
    assert new is not None
    assert new.payload.error == "Traceback:\n\tline 1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "bad",
    ["", "7", "019953f2", "019953F2-5D6C-7C3E-8A41-0B6F9D2E7A10", "{019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10}"],
)
def test_event_id_is_refused(bad: str) -> None:
    error = refused_line(IdentityRefused, line(event("trial_started", STARTED, event_id=bad)))
    assert (error.field, error.value) == ("event_id", bad)
    assert "an event id is a UUID" in error.reason


@pytest.mark.parametrize(
    ("sent", "field", "reason"),
    [
        (event("trial_begun", STARTED), "type", "no such type; known are experiment_registered"),
        (event("store_added", {"uri": "file:///"}), "type", "a recorder may not send this type; known are"),
        (event("eviction_decided", {}), "type", "a recorder may not send this type; known are"),
        (event("trial_started", STARTED | {"colour": "red"}), "data.colour", "no such field"),
        (event("trial_started", STARTED, colour="red"), "colour", "no such field; an event has data"),
        (event("trial_started", {}), "data.trial_id", "this field is missing"),
        (event("trial_started", STARTED, schema_version=2), "schema_version", "this software speaks version 1 of"),
        (event("trial_started", STARTED, schema_version="1"), "schema_version", "this software speaks version 1 of"),
        (event("trial_started", STARTED, schema_version=True), "schema_version", "this software speaks version 1 of"),
        (event("trial_started", STARTED, experiment_id=7), "experiment_id", "this must be text"),
        (event("trial_started", {"trial_id": 7}), "data.trial_id", "expected `str`, got `int`"),
    ],
)
def test_form_is_refused(sent: dict[str, Any], field: str, reason: str) -> None:
    error = refused_line(IdentityRefused, line(sent))
    assert error.field == field
    assert error.reason.startswith(reason)


@pytest.mark.parametrize("name", ["event_id", "experiment_id", "type", "occurred_at", "data"])
def test_missing_field_is_refused(name: str) -> None:
    sent = event("trial_started", STARTED)
    del sent[name]
    error = refused_line(IdentityRefused, line(sent))
    assert (error.field, error.reason) == (name, "this field is missing")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "the line is no JSON: Expecting property name enclosed in double quotes at character 2"),
        (b"hello", "the line is no JSON: Expecting value at character 1"),
        (b"[1]", "an event is a JSON object"),
        (b"\xff{}", "the line must be UTF-8; byte 1 is not"),
        (line(event("trial_started", STARTED)).replace(b'{"trial_id"', b'{"trial_id": "8", "trial_id"'),
         "this key stands in the object twice"),
        (line(event("trial_started", {"trial_id": "7", "config": {"note": "x" * MAX_EVENT_BYTES}})),
         f"an event has at most {MAX_EVENT_BYTES} bytes"),
        (line(event("trial_started")).replace(b"{}", b'{"trial_id": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
         "it is nested"),
        (line(event("trial_started")).replace(b"{}", b'{"trial_id": ' + b"[" * 40 + b"]" * 40 + b"}"),
         "it is nested more than 32 deep"),
    ],
    ids=["cut off", "word", "array", "no UTF-8", "repeated key", "too large", "very deep", "deep"],
)  # fmt: skip
def test_line_is_refused(text: bytes, reason: str) -> None:
    error = refused_line(IdentityRefused, text)
    assert error.reason.startswith(reason)
    assert len(str(error)) < 400


def test_event_over_64_kib_is_refused_by_the_python_api(sqlite_url: str) -> None:
    with experiment(sqlite_url) as services:
        before = contents(services)
        with pytest.raises(IdentityRefused, match="an event's data has at most 65536 bytes, this one has 65577"):
            ExperimentHandle(services, "tester", "one").trial_failed("7", error="x" * 65_550)
        assert contents(services) == before


def test_unknown_experiment_and_trial(database_url: str) -> None:
    with experiment(database_url) as services:
        assert_refused(
            services,
            event("trial_reported", {"trial_id": "7", "resource": 1, "metric": 1}),
            event("trial_started", STARTED, experiment_id="two"),
            error=IdentityRefused,
            message="line 2, event ID (trial_started): field `experiment_id` is 'two': "
            "no such experiment; register it first (event experiment_registered)",
        )
        assert_refused(
            services,
            event("trial_reported", {"trial_id": "8", "resource": 1, "metric": 1}),
            error=IdentityRefused,
            message="line 1, event ID (trial_reported): field `trial_id` is '8': "
            "experiment one has no such trial; start it first (event trial_started)",
        )


def test_one_id_with_two_contents(database_url: str) -> None:
    first = event("trial_started", {"trial_id": "8"})
    with experiment(database_url) as services:
        other = first | {"data": {"trial_id": "9"}}
        message = (
            "line 1, event ID (trial_started): field `event_id` is 'ID': "
            "this id stands for another event already; give each event an id of its own"
        )
        assert_refused(services, first, other, error=IdentityRefused, message=message)
        assert send(services, first) == 1
        for changed in (other, first | {"occurred_at": "2026-01-01T00:00:02Z"}):
            assert_refused(services, changed, error=IdentityRefused, message=message)
        assert send(services, first) == 0


def test_part_of_a_batch_was_stored_before(database_url: str) -> None:
    started, reported = (
        event("trial_started", {"trial_id": "8"}),
        event("trial_reported", {"trial_id": "8", "resource": 1, "metric": 1}),
    )
    with experiment(database_url) as services:
        assert send(services, started) == 1
        batch = [parse_line(line(one), 1, "another") for one in (started, reported, started)]
        receipts = services.recorder.append([new for new in batch if new is not None])
        assert [(one.position, one.stored_before) for one in receipts] == [(3, True), (4, False), (3, True)]
        assert stored_types(services)[2:] == ["trial_started", "trial_reported"]


def test_empty_batch_does_nothing(database_url: str) -> None:
    with experiment(database_url) as services:
        before = contents(services)
        assert services.recorder.append([]) == []
        assert send(services) == 0
        assert contents(services) == before


def test_refusals_are_one_family() -> None:
    with pytest.raises(BadInput):
        parse_line(json.dumps({}).encode(), 1, "tester")

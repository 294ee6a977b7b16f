"""Where a copy has another ETag than its original, as under a key of the customer's (SSE-KMS), contents are compared.

This server has no such keys. But what is copied in parts has another ETag than what is copied at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import quota_s3.copying
from integration.s3_store.house import CLAIM, FILES, Crash, CrashAt, House, answer, listening
from quota.errors import CheckpointChanged, CheckpointGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from quota.domain.manifest import Manifest

COPIED = "before-send.s3.CompleteMultipartUpload"
CONTENTS = {name: content for name, content in FILES.items() if content}


@pytest.fixture
def house(unversioned: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """A checkpoint in the trash, whose copies will have other ETags when they are copied back."""
    unversioned.evict()
    monkeypatch.setattr(quota_s3.copying, "MOST_AT_ONCE_BYTES", -1)
    return unversioned


@pytest.fixture
def manifest(unversioned: House) -> Manifest:
    return unversioned.store.manifest(unversioned.uri)


def cut_off_restore(house: House, *, copied: int) -> None:
    """Let a restore die when it has copied so many objects back."""
    with listening(house.store, COPIED, CrashAt(copied)), pytest.raises(Crash):
        house.store.restore(house.uri, CLAIM)
    assert len(house.files()) == copied
    house.store = house.opened()


def cut_off_at_the_end(house: House) -> None:
    """Let a restore die when it has copied everything back, and noted nothing of it."""
    with listening(house.store, "before-send.s3.PutObject", CrashAt(3)), pytest.raises(Crash):
        house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES
    house.store = house.opened()


CUTS = [lambda house: cut_off_restore(house, copied=1), cut_off_at_the_end]


@pytest.mark.parametrize("cut_off", CUTS, ids=["half", "all"])
def test_a_restore_that_was_cut_off_is_finished(
    manifest: Manifest, house: House, cut_off: Callable[[House], None]
) -> None:
    cut_off(house)
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest
    assert not house.store.trashed(CLAIM)
    house.store.release(house.uri, CLAIM)
    assert house.in_trash() == set()


@pytest.mark.parametrize("cut_off", CUTS, ids=["half", "all"])
def test_a_restore_that_was_cut_off_is_taken_back(
    manifest: Manifest, house: House, cut_off: Callable[[House], None]
) -> None:
    cut_off(house)
    house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == {}
    with pytest.raises(CheckpointGone):
        house.store.manifest(house.uri)
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest


@pytest.mark.parametrize("cut_off", CUTS, ids=["half", "all"])
def test_a_purge_after_a_restore_that_was_cut_off_leaves_nothing(
    manifest: Manifest, house: House, cut_off: Callable[[House], None]
) -> None:
    cut_off(house)
    house.store.purge(CLAIM, manifest)
    assert house.files() == {}
    assert house.in_trash() == set()


def other_content_of_equal_size(house: House) -> dict[str, bytes]:
    house.put("model.pt", b"WEIGHTS")
    return {**FILES, "model.pt": b"WEIGHTS"}


def one_more(house: House) -> dict[str, bytes]:
    house.put("new.pt", b"new")
    return {**FILES, "new.pt": b"new"}


@pytest.mark.parametrize("write", [other_content_of_equal_size, one_more])
def test_what_a_tuner_writes_after_a_restore_was_cut_off_is_no_copy(
    manifest: Manifest, house: House, write: Callable[[House], dict[str, bytes]]
) -> None:
    cut_off_at_the_end(house)
    files = write(house)
    with pytest.raises(CheckpointChanged, match=r"something else lies there now: '(model|new)\.pt'"):
        house.store.restore(house.uri, CLAIM)
    assert house.files() == files
    # A checkpoint that a tuner writes may well have objects that are as they were in the one before.
    house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == files
    assert house.store.trashed(CLAIM)
    house.store.purge(CLAIM, manifest)
    assert house.files() == files
    assert house.in_trash() == set()


def test_what_is_written_while_contents_are_compared_is_no_copy(manifest: Manifest, house: House) -> None:
    cut_off_at_the_end(house)
    todo = [lambda: house.put("model.pt", b"WEIGHTS")]

    def write(request: object, **_: object) -> None:
        if todo and str(getattr(request, "url", "")).endswith("trial-1/model.pt"):
            todo.pop()()

    with listening(house.store, "before-send.s3.GetObject", write):
        house.store.trash(house.uri, CLAIM, manifest)
    assert todo == []
    assert house.files() == {**FILES, "model.pt": b"WEIGHTS"}
    assert house.store.trashed(CLAIM)


def test_an_answer_that_ends_early_is_no_equal_content(manifest: Manifest, house: House) -> None:
    cut_off_at_the_end(house)
    empty = answer(200, "", {"ETag": '"x"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"})

    def answer_contents(request: object, **keywords: object) -> object:
        is_content = str(getattr(request, "url", "")).endswith("/model.pt")
        return empty(request=request, **keywords) if is_content else None

    with listening(house.store, "before-send.s3.GetObject", answer_contents):
        house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == FILES
    assert house.store.trashed(CLAIM)

"""Delete markers: those that the store has put are taken away again, and those that a tuner has put stay."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

import quota_s3.hiding
from integration.s3_store.house import CLAIM, FILES, Crash, CrashAt, House, error, listening
from quota.errors import CheckpointChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from botocore.awsrequest import AWSPreparedRequest

    from quota.domain.manifest import Manifest

LISTING = "before-send.s3.ListObjectVersions"
DELETE_MANY = "before-send.s3.DeleteObjects"
# Before the delete markers are put, right before, and before it is looked at what they hid.
MOMENTS = [(LISTING, 2), (DELETE_MANY, 1), (LISTING, 3)]


@pytest.fixture
def house(versioned: House) -> House:
    return versioned


def at(house: House, event: str, number: int, *acts: Callable[[], object]) -> AbstractContextManager[None]:
    """Do `acts` when an event comes for the `number`-th time."""
    numbers = itertools.count(1)

    def handler(**_: object) -> None:
        if next(numbers) == number:
            for act in acts:
                act()

    return listening(house.store, event, handler)


def delete(house: House, name: str) -> str:
    """Delete as a tuner does; returns the version id of the marker."""
    return house.client.delete_object(Bucket=house.bucket, Key=house.prefix + name)["VersionId"]


def one_by_one(house: House) -> AbstractContextManager[None]:
    return listening(house.store, DELETE_MANY, error(400, "MissingContentMD5"))


def cut_off_restore(house: House) -> str:
    """Let a restore die when it has brought back one of the files; returns which one."""
    # One of the requests for the two markers comes through.
    with one_by_one(house), listening(house.store, "before-send.s3.DeleteObject", CrashAt(1)), pytest.raises(Crash):
        house.store.restore(house.uri, CLAIM)
    (visible,) = house.files()
    return visible


@pytest.mark.parametrize(("event", "number"), MOMENTS)
def test_what_a_tuner_deletes_meanwhile_goes_to_the_trash_and_is_not_brought_back(
    house: House, event: str, number: int
) -> None:
    manifest = house.store.manifest(house.uri)
    markers: list[str] = []
    with at(house, event, number, lambda: markers.append(delete(house, "model.pt"))):
        house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == {}
    with pytest.raises(CheckpointChanged, match=r"deleted it too.*model\.pt"):
        house.store.restore(house.uri, CLAIM)
    assert house.files() == {}
    assert house.store.trashed(CLAIM)
    house.store.purge(CLAIM, manifest)
    assert house.everything(house.prefix) == {(f"{house.prefix}model.pt", marker, "marker") for marker in markers}
    assert not house.store.trashed(CLAIM)


@pytest.mark.parametrize(("event", "number"), MOMENTS)
def test_what_a_tuner_deletes_meanwhile_stays_deleted_when_all_is_undone(house: House, event: str, number: int) -> None:
    manifest = house.store.manifest(house.uri)
    with (
        at(house, event, number, lambda: delete(house, "model.pt"), lambda: house.put("new.pt", b"new")),
        pytest.raises(CheckpointChanged, match=r"new\.pt"),
    ):
        house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == {"new.pt": b"new", **{name: FILES[name] for name in ("sub/", "sub/state 1.bin")}}
    assert house.in_trash() == set()


def test_what_somebody_else_deleted_too_is_not_restored(house: House) -> None:
    house.evict()
    house.client.delete_object(Bucket=house.bucket, Key=f"{house.prefix}model.pt")
    with pytest.raises(CheckpointChanged, match=r"deleted it too.*model\.pt"):
        house.store.restore(house.uri, CLAIM)
    assert house.store.trashed(CLAIM)
    assert house.files() == {}


def test_what_a_tuner_deletes_after_a_restore_was_cut_off_stays_deleted(house: House) -> None:
    house.evict()
    visible = cut_off_restore(house)
    delete(house, visible)
    with pytest.raises(CheckpointChanged, match="deleted it too"):
        house.store.restore(house.uri, CLAIM)
    assert house.files() == {}
    assert house.store.trashed(CLAIM)


def test_what_was_hidden_again_after_a_restore_was_cut_off_can_be_restored(house: House) -> None:
    manifest = house.evict()
    cut_off_restore(house)
    # The claim is put when it is taken up, when its checkpoint begins to be moved again, and when that is done.
    with listening(house.store, "before-send.s3.PutObject", CrashAt(2)), pytest.raises(Crash):
        house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == {}
    assert house.store.trashed(CLAIM)
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest
    house.store.release(house.uri, CLAIM)
    assert house.in_trash() == set()


@pytest.fixture
def answers_lost(house: House) -> Iterator[list[str]]:
    """Lose the answer to the first try of each deletion, which the server has done."""
    lost: list[str] = []

    def lose(request: AWSPreparedRequest, **_: object) -> None:
        body = str(request.url) + str(request.body)
        if body not in lost:
            lost.append(body)
            URLLib3Session().send(request)
            raise ConnectionClosedError(endpoint_url=request.url or "")

    with listening(house.store, DELETE_MANY, lose), listening(house.store, "before-send.s3.DeleteObject", lose):
        yield lost


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)


def require_coming_and_going(house: House) -> Manifest:
    manifest = house.evict()
    assert house.files() == {}
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest
    house.store.release(house.uri, CLAIM)
    assert house.in_trash() == set()
    return manifest


@pytest.mark.parametrize("way", ["by the thousand", "one by one"])
def test_markers_of_tries_whose_answer_was_lost_are_taken_away_too(
    house: House, answers_lost: list[str], way: str
) -> None:
    if way == "one by one":
        with one_by_one(house):
            require_coming_and_going(house)
    else:
        require_coming_and_going(house)
    assert len(answers_lost) >= 2


@pytest.mark.parametrize("said", [None, "another"])
@pytest.mark.parametrize("is_undone", [False, True])
def test_markers_that_the_server_does_not_name_are_taken_away_too(
    house: House, said: str | None, *, is_undone: bool
) -> None:
    def rename(parsed: dict[str, Any], **_: object) -> None:
        for deleted in parsed.get("Deleted", []):
            deleted.pop("DeleteMarkerVersionId", None)
            deleted.update({} if said is None else {"DeleteMarkerVersionId": said})

    manifest = house.store.manifest(house.uri)
    with listening(house.store, "after-call.s3.DeleteObjects", rename):
        if not is_undone:
            assert require_coming_and_going(house) == manifest
            return
        with at(house, LISTING, 3, lambda: house.put("new.pt", b"new")), pytest.raises(CheckpointChanged):
            house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == {**FILES, "new.pt": b"new"}
    assert house.in_trash() == set()


@pytest.mark.parametrize("undone_by", ["restore", "purge"])
def test_what_was_written_in_the_moment_of_the_move_does_not_stay_hidden(
    house: House, monkeypatch: pytest.MonkeyPatch, undone_by: str
) -> None:
    manifest = house.store.manifest(house.uri)
    really_delete = quota_s3.hiding.delete
    written = {name: b"written since, " + content for name, content in FILES.items() if content}

    def write_first_and_die_then(*arguments: object) -> None:
        for name, content in written.items():
            house.put(name, content)
        really_delete(*arguments)  # type: ignore[arg-type]
        raise Crash

    monkeypatch.setattr(quota_s3.hiding, "delete", write_first_and_die_then)
    with pytest.raises(Crash):
        house.store.trash(house.uri, CLAIM, manifest)
    monkeypatch.setattr(quota_s3.hiding, "delete", really_delete)
    house.store = house.opened()
    if undone_by == "restore":
        assert not house.store.restore(house.uri, CLAIM)
        house.store.release(house.uri, CLAIM)
    else:
        house.store.purge(CLAIM, manifest)
    # Some servers delete placeholders for good, and there is no content to lose by that.
    assert {name: content for name, content in house.files().items() if content} == written
    assert house.in_trash() == set()

"""What is written while the store works is never taken along."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from integration.s3_store.house import CLAIM, FILES, OTHER_CLAIM, Crash, CrashAt, House, error, listening, once
from quota.errors import CheckpointChanged, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3_servers import Kind


def rewritten(house: House) -> Callable[[], None]:
    return lambda: house.put("model.pt", b"WEIGHTS")


def added(house: House) -> Callable[[], None]:
    return lambda: house.put("new.pt", b"new")


def removed(house: House) -> Callable[[], object]:
    return lambda: house.client.delete_object(Bucket=house.bucket, Key=f"{house.prefix}model.pt")


# The listings: before the claim, before the delete markers, and after them.
@pytest.mark.parametrize(
    ("number", "change"),
    [*((number, change) for number in range(1, 4) for change in (rewritten, added)), (1, removed)],
)
def test_a_change_while_a_checkpoint_is_hidden_is_seen_and_undoes_it(
    new_house: Callable[[Kind], House], number: int, change: Callable[[House], Callable[[], object]]
) -> None:
    house = new_house("versioned")
    manifest = house.store.manifest(house.uri)
    acts = [change(house)]
    numbers = itertools.count(1)

    def handler(**_: object) -> None:
        if next(numbers) == number:
            acts.pop()()

    with (
        listening(house.store, "before-send.s3.ListObjectVersions", handler),
        pytest.raises(CheckpointChanged),
    ):
        house.store.trash(house.uri, CLAIM, manifest)
    assert acts == []
    without = {name: content for name, content in FILES.items() if name != "model.pt"}
    expected = {rewritten: {"model.pt": b"WEIGHTS"}, added: {"new.pt": b"new", "model.pt": b"weights"}, removed: {}}
    assert house.files() == {**without, **expected[change]}
    assert not house.store.trashed(CLAIM)
    assert house.in_trash() == set()


@pytest.mark.parametrize("change", [rewritten, added])
def test_a_write_right_before_the_delete_markers_comes_to_light_again(
    new_house: Callable[[Kind], House], change: Callable[[House], Callable[[], None]]
) -> None:
    house = new_house("versioned")
    manifest = house.store.manifest(house.uri)
    handler, todo = once(change(house))
    with (
        listening(house.store, "before-send.s3.DeleteObjects", handler),
        pytest.raises(CheckpointChanged, match=r"model\.pt|new\.pt"),
    ):
        house.store.trash(house.uri, CLAIM, manifest)
    assert todo == []
    added_files = {"model.pt": b"WEIGHTS"} if change is rewritten else {"new.pt": b"new"}
    assert house.files() == {**FILES, **added_files}
    assert house.in_trash() == set()


@pytest.mark.parametrize("change", [rewritten, added])
@pytest.mark.parametrize("request_name", ["PutObject", "CopyObject"])
def test_a_write_while_copies_are_made_is_left_alone(
    new_house: Callable[[Kind], House], change: Callable[[House], Callable[[], None]], request_name: str
) -> None:
    house = new_house("unversioned")
    manifest = house.store.manifest(house.uri)
    handler, todo = once(change(house))
    with (
        listening(house.store, f"before-send.s3.{request_name}", handler),
        pytest.raises(CheckpointChanged),
    ):
        house.store.trash(house.uri, CLAIM, manifest)
    assert todo == []
    added_files = {"model.pt": b"WEIGHTS"} if change is rewritten else {"new.pt": b"new"}
    assert house.files() == {**FILES, **added_files}
    assert house.in_trash() == set()


def test_a_write_right_before_the_first_original_is_deleted_stays(new_house: Callable[[Kind], House]) -> None:
    house = new_house("unversioned")
    handler, todo = once(rewritten(house))
    with listening(house.store, "before-send.s3.DeleteObject", handler):
        house.evict()
    assert todo == []
    assert house.files() == {"model.pt": b"WEIGHTS"}
    assert house.store.trashed(CLAIM)


def test_only_a_server_without_conditional_deletes_loses_a_write_between_look_and_deletion(
    new_house: Callable[[Kind], House],
) -> None:
    house = new_house("unversioned")
    todo = [rewritten(house)]

    def write(request: object, **keywords: object) -> object:
        if "If-Match" in getattr(request, "headers", {}):
            return error(501, "NotImplemented")(request=request, **keywords)
        if todo and str(getattr(request, "url", "")).endswith("trial-1/model.pt"):
            todo.pop()()
        return None

    with listening(house.store, "before-send.s3.DeleteObject", write):
        manifest = house.evict()
    assert todo == []
    assert house.files() == {}
    # What the claim is on was copied before, and comes back.
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest


def test_a_write_to_the_original_that_is_being_deleted_stays(new_house: Callable[[Kind], House]) -> None:
    house = new_house("unversioned")
    todo = [rewritten(house)]

    def handler(request: object, **_: object) -> None:
        if todo and "model.pt" in str(getattr(request, "url", "")):
            todo.pop()()

    with listening(house.store, "before-send.s3.DeleteObject", handler):
        house.evict()
    assert todo == []
    assert house.files() == {"model.pt": b"WEIGHTS"}
    assert house.store.trashed(CLAIM)


def test_a_restore_does_not_replace_what_is_written_meanwhile(new_house: Callable[[Kind], House]) -> None:
    house = new_house("unversioned")
    house.evict()
    todo = [rewritten(house)]

    def handler(request: object, **_: object) -> None:
        if todo and str(getattr(request, "url", "")).endswith("model.pt"):
            todo.pop()()

    with (
        listening(house.store, "before-send.s3.CopyObject", handler),
        pytest.raises(CheckpointChanged),
    ):
        house.store.restore(house.uri, CLAIM)
    assert todo == []
    assert house.files()["model.pt"] == b"WEIGHTS"
    assert house.store.trashed(CLAIM)


def test_older_versions_stay_hidden_after_a_purge(new_house: Callable[[Kind], House]) -> None:
    house = new_house("versioned")
    older = house.everything(house.prefix)
    house.put("model.pt", b"WEIGHTS")
    manifest = house.evict()
    house.store.purge(CLAIM, manifest)
    assert house.files() == {}
    left = {entry for entry in house.everything(house.prefix) if entry[2] != "marker"}
    assert left == {entry for entry in older if entry[0].endswith("model.pt")}
    markers = [entry[0] for entry in house.everything(house.prefix) if entry[2] == "marker"]
    assert markers == [f"{house.prefix}model.pt"]


def test_a_purge_leaves_later_versions_and_what_hides_them(new_house: Callable[[Kind], House]) -> None:
    house = new_house("versioned")
    first = house.evict()
    house.put("model.pt", b"later")
    second = house.store.manifest(house.uri)
    house.store.trash(house.uri, OTHER_CLAIM + "-2", second)
    house.store.purge(CLAIM, first)
    assert house.files() == {}
    assert house.store.restore(house.uri, OTHER_CLAIM + "-2")
    assert house.files() == {"model.pt": b"later"}


def test_what_was_brought_back_by_hand_is_not_purged(new_house: Callable[[Kind], House]) -> None:
    house = new_house("versioned")
    manifest = house.evict()
    key = f"{house.prefix}model.pt"
    marker = next(found[1] for found in house.everything(key) if found[2] == "marker")
    house.client.delete_object(Bucket=house.bucket, Key=key, VersionId=str(marker))
    with pytest.raises(CheckpointChanged, match=r"model\.pt"):
        house.store.purge(CLAIM, manifest)
    assert house.files() == {"model.pt": b"weights"}
    assert house.store.restore(house.uri, CLAIM)
    assert house.files() == FILES


def test_what_is_lost_from_the_trash_is_not_restored_in_part(house: House, kind: Kind) -> None:
    house.evict()
    if kind == "versioned":
        key = f"{house.prefix}model.pt"
        version = next(found[1] for found in house.everything(key) if found[2] != "marker")
        house.client.delete_object(Bucket=house.bucket, Key=key, VersionId=str(version))
    else:
        house.client.delete_object(Bucket=house.bucket, Key=f"{house.root}.trash/{CLAIM}.d/model.pt")
    with pytest.raises(StoreError, match=r"are gone.*model\.pt"):
        house.store.restore(house.uri, CLAIM)
    assert house.files() == {}
    assert house.store.trashed(CLAIM)


@pytest.mark.parametrize("name", ["model.pt", "stranger.pt"])
def test_what_the_trash_should_not_have_is_not_purged(new_house: Callable[[Kind], House], name: str) -> None:
    house = new_house("unversioned")
    manifest = house.evict()
    key = f"{house.root}.trash/{CLAIM}.d/{name}"
    house.client.put_object(Bucket=house.bucket, Key=key, Body=b"by hand")
    with pytest.raises(CheckpointChanged, match=name.replace(".", r"\.")):
        house.store.purge(CLAIM, manifest)
    assert (key, None) in {entry[:2] for entry in house.in_trash()}
    assert house.store.trashed(CLAIM)


def test_a_claim_is_on_one_checkpoint(house: House) -> None:
    manifest = house.evict()
    other = house.uri.replace("trial-1/", "trial-10/")
    with pytest.raises(StoreError, match="not on"):
        house.store.trash(other, CLAIM, manifest)
    with pytest.raises(StoreError, match="not on"):
        house.store.restore(other, CLAIM)


def test_a_damaged_claim_is_named_and_kept(house: House) -> None:
    manifest = house.evict()
    house.client.put_object(Bucket=house.bucket, Key=f"{house.root}.trash/{CLAIM}", Body=b"{")
    for act in (
        lambda: house.store.trash(house.uri, CLAIM, manifest),
        lambda: house.store.restore(house.uri, CLAIM),
        lambda: house.store.purge(CLAIM, manifest),
        lambda: house.store.trashed(CLAIM),
    ):
        with pytest.raises(StoreError, match="damaged"):
            act()
    assert house.in_trash() != set()


@pytest.mark.parametrize("content", [b"weights", b"WEIGHTS"])
def test_what_was_written_since_a_crash_is_no_original(new_house: Callable[[Kind], House], content: bytes) -> None:
    house = new_house("unversioned")
    manifest = house.store.manifest(house.uri)
    with listening(house.store, "before-send.s3.DeleteObject", CrashAt(0)), pytest.raises(Crash):
        house.store.trash(house.uri, CLAIM, manifest)
    before = house.store.manifest(house.uri)
    while before == house.store.manifest(house.uri):
        house.put("model.pt", content)
    house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == {"model.pt": content}
    assert house.store.trashed(CLAIM)


def test_what_a_tuner_writes_after_a_restore_was_cut_off_stays_also_where_it_is_equal(
    new_house: Callable[[Kind], House],
) -> None:
    house = new_house("unversioned")
    manifest = house.evict()
    # Sign and claim are put, the copies are made, the placeholder is put, and then what was restored is recorded.
    with listening(house.store, "before-send.s3.PutObject", CrashAt(3)), pytest.raises(Crash):
        house.store.restore(house.uri, CLAIM)
    house.fill({"model.pt": b"WEIGHTS", "sub/state 1.bin": b"state"})
    house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == {**FILES, "model.pt": b"WEIGHTS"}
    assert house.store.trashed(CLAIM)


def test_no_original_is_deleted_whose_copy_is_gone(new_house: Callable[[Kind], House]) -> None:
    house = new_house("unversioned")
    manifest = house.store.manifest(house.uri)
    with listening(house.store, "before-send.s3.DeleteObject", CrashAt(0)), pytest.raises(Crash):
        house.store.trash(house.uri, CLAIM, manifest)
    house.client.delete_object(Bucket=house.bucket, Key=f"{house.root}.trash/{CLAIM}.d/model.pt")
    with pytest.raises(StoreError, match=r"are gone.*model\.pt"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == FILES


def test_a_claim_that_moved_nothing_is_given_up_where_something_else_was_written(house: House) -> None:
    manifest = house.store.manifest(house.uri)
    # The first request that changes anything after the claim was put.
    request = "DeleteObjects" if house.kind == "versioned" else "CopyObject"
    with listening(house.store, f"before-send.s3.{request}", CrashAt(0)), pytest.raises(Crash):
        house.store.trash(house.uri, CLAIM, manifest)
    house.put("new.pt", b"new")
    assert CLAIM in house.store.claims()
    assert not house.store.trashed(CLAIM)
    assert not house.store.restore(house.uri, CLAIM)
    # What hides may still come; what copies deletes nothing.
    assert (CLAIM in house.store.claims()) == (house.kind == "versioned")
    house.store.release(house.uri, CLAIM)
    assert CLAIM not in house.store.claims()
    assert house.files() == {**FILES, "new.pt": b"new"}
    assert house.in_trash() == set()


@pytest.mark.parametrize("end", ["trash", "purge"])
def test_a_later_checkpoint_survives_what_follows_a_crash_after_the_move(
    new_house: Callable[[Kind], House], end: str
) -> None:
    house = new_house("versioned")
    manifest = house.store.manifest(house.uri)
    # The claim is put before the move and again after it.
    with listening(house.store, "before-send.s3.PutObject", CrashAt(1)), pytest.raises(Crash):
        house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == {}
    later = {name: b"later" for name in FILES if not name.endswith("/")}
    house.fill({**later, "new.pt": b"new"})
    if end == "trash":
        house.store.trash(house.uri, CLAIM, manifest)
        assert house.store.trashed(CLAIM)
    house.store.purge(CLAIM, manifest)
    assert house.files() == {**later, "new.pt": b"new"}
    assert not house.store.trashed(CLAIM)


def test_delete_markers_that_were_there_before_stay(new_house: Callable[[Kind], House]) -> None:
    house = new_house("versioned")
    removed(house)()
    house.put("model.pt", b"weights")
    before = house.everything(house.prefix)
    manifest = house.evict()
    assert house.store.restore(house.uri, CLAIM)
    # Placeholders have no versions on this server, and are written anew.
    assert house.everything(house.prefix) == before
    house.store.trash(house.uri, CLAIM, manifest)
    house.store.purge(CLAIM, manifest)
    assert house.files() == {}
    assert {entry for entry in before if entry[2] == "marker"} <= house.everything(house.prefix)


def test_a_write_stays_where_the_server_has_no_conditional_deletes(new_house: Callable[[Kind], House]) -> None:
    house = new_house("unversioned")
    todo = [rewritten(house)]

    def write(request: object, **_: object) -> None:
        if todo and str(getattr(request, "url", "")).endswith("trial-1/model.pt"):
            todo.pop()()

    def refuse_conditions(request: object, **keywords: object) -> object:
        conditional = "If-Match" in getattr(request, "headers", {})
        return error(501, "NotImplemented")(request=request, **keywords) if conditional else None

    with (
        listening(house.store, "before-send.s3.HeadObject", write),
        listening(house.store, "before-send.s3.DeleteObject", refuse_conditions),
    ):
        house.evict()
    assert todo == []
    assert house.files() == {"model.pt": b"WEIGHTS"}
    assert house.store.trashed(CLAIM)

"""What is deleted late, by a process that was frozen or by a server that nobody waits for, is brought back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

from integration.s3_store.house import CLAIM, FILES, Crash, House, listening
from quota.errors import CheckpointGone, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.awsrequest import AWSPreparedRequest

    from quota.domain.manifest import Manifest
    from s3_servers import Kind

DELETION = {"unversioned": "before-send.s3.DeleteObject", "versioned": "before-send.s3.DeleteObjects"}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)


def require_whole(house: House, manifest: Manifest) -> None:
    assert house.files() == FILES
    assert house.store.manifest(house.uri) == manifest
    assert not house.store.trashed(CLAIM)


def require_forgotten(house: House) -> None:
    house.store.release(house.uri, CLAIM)
    assert house.in_trash() == set()
    house.store.release(house.uri, CLAIM)


class Frozen:
    """A process that is frozen before its n-th deletion, until another one has given the checkpoint back."""

    def __init__(self, house: House, number: int) -> None:
        self.house, self.left, self.is_given_back = house, number, False

    def __call__(self, **_: object) -> None:
        self.left -= 1
        if self.left == 0:
            self.house.opened().restore(self.house.uri, CLAIM)
            self.is_given_back = True


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("killed", [False, True])
def test_what_a_process_deletes_that_wakes_too_late_is_brought_back(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int, *, killed: bool
) -> None:
    monkeypatch.setattr("quota_s3.parallel.WORKERS", 1)
    manifest = house.store.manifest(house.uri)
    frozen = Frozen(house, number)
    with suppress(Crash, StoreError), listening(house.store, DELETION[house.kind], frozen):
        house.store.trash(house.uri, CLAIM, manifest)
        if killed:
            raise Crash
        house.store.restore(house.uri, CLAIM)
    assert frozen.is_given_back or (house.kind, number) != ("unversioned", 1)
    house.store = house.opened()
    house.store.restore(house.uri, CLAIM)
    require_whole(house, manifest)
    require_forgotten(house)


def cut_off_move(house: House, number: int = 1) -> None:
    """Let a process die before its n-th deletion."""
    left = [number]

    def die(**_: object) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise Crash

    with listening(house.store, DELETION[house.kind], die), pytest.raises(Crash):
        house.evict()
    house.store = house.opened()


def test_what_is_deleted_after_it_was_given_back_passes_for_gone_and_is_brought_back(unversioned: House) -> None:
    manifest = unversioned.store.manifest(unversioned.uri)
    cut_off_move(unversioned)
    assert unversioned.store.restore(unversioned.uri, CLAIM)
    require_whole(unversioned, manifest)
    for _ in range(2):
        unversioned.client.delete_object(Bucket=unversioned.bucket, Key=f"{unversioned.prefix}model.pt")
        with pytest.raises(CheckpointGone, match=r"deleted after it had been restored.*model\.pt"):
            unversioned.store.manifest(unversioned.uri)
        assert unversioned.store.restore(unversioned.uri, CLAIM)
        require_whole(unversioned, manifest)
    assert not unversioned.store.restore(unversioned.uri, CLAIM)
    require_forgotten(unversioned)


@pytest.mark.parametrize("content", [b"weights", b"WEIGHTS"])
def test_what_a_trial_deletes_when_it_writes_anew_is_not_brought_back(unversioned: House, content: bytes) -> None:
    cut_off_move(unversioned)
    assert unversioned.store.restore(unversioned.uri, CLAIM)
    unversioned.client.delete_object(Bucket=unversioned.bucket, Key=f"{unversioned.prefix}sub/state 1.bin")
    before = modified(unversioned)
    while modified(unversioned) == before:
        unversioned.put("model.pt", content)
    assert not unversioned.store.restore(unversioned.uri, CLAIM)
    assert unversioned.files() == {"model.pt": content, "sub/": b""}
    assert unversioned.store.manifest(unversioned.uri).size_bytes == len(content)
    require_forgotten(unversioned)


def modified(house: House) -> object:
    head = house.client.head_object(Bucket=house.bucket, Key=f"{house.prefix}model.pt")
    return head["LastModified"]


def test_what_was_given_back_can_be_evicted_again(house: House) -> None:
    manifest = house.store.manifest(house.uri)
    cut_off_move(house)
    house.store.restore(house.uri, CLAIM)
    house.store.trash(house.uri, CLAIM, manifest)
    assert house.files() == {}
    assert house.store.trashed(CLAIM)
    assert house.store.unsettled() == frozenset()
    assert house.store.restore(house.uri, CLAIM)
    require_whole(house, manifest)
    house.store.trash(house.uri, CLAIM, manifest)
    house.store.purge(CLAIM, manifest)
    assert house.everything(house.prefix) == set()
    assert house.in_trash() == set()


def test_what_is_in_the_trash_is_not_released(house: House) -> None:
    manifest = house.evict()
    house.store.release(house.uri, CLAIM)
    assert house.store.trashed(CLAIM)
    assert house.store.restore(house.uri, CLAIM)
    require_whole(house, manifest)


class Unanswered:
    """A server that takes requests, answers none in time, and carries them out when nobody waits any more."""

    def __init__(self) -> None:
        self.requests: list[AWSPreparedRequest] = []

    def __call__(self, request: AWSPreparedRequest, **_: object) -> None:
        self.requests.append(request)
        raise ReadTimeoutError(endpoint_url=request.url or "")

    def carry_out(self) -> None:
        for request in self.requests:
            URLLib3Session().send(request)


def test_what_a_server_hides_after_the_move_was_undone_is_brought_back(versioned: House) -> None:
    manifest = versioned.store.manifest(versioned.uri)
    server = Unanswered()
    with (
        listening(versioned.store, DELETION["versioned"], server),
        pytest.raises(StoreError, match="QUOTA_S3_READ_TIMEOUT"),
    ):
        versioned.store.trash(versioned.uri, CLAIM, manifest)
    require_whole(versioned, manifest)
    server.carry_out()
    with pytest.raises(CheckpointGone):
        versioned.store.manifest(versioned.uri)
    versioned.store = versioned.opened()
    assert versioned.store.trashed(CLAIM)
    assert versioned.store.restore(versioned.uri, CLAIM)
    require_whole(versioned, manifest)
    # One more of its tries comes through.
    server.carry_out()
    assert versioned.store.restore(versioned.uri, CLAIM)
    require_whole(versioned, manifest)
    require_forgotten(versioned)


def test_what_a_server_deletes_after_it_was_given_back_is_brought_back(unversioned: House) -> None:
    manifest = unversioned.store.manifest(unversioned.uri)
    server = Unanswered()
    lost: list[str] = []

    def lose_first_try(request: AWSPreparedRequest, **_: object) -> None:
        if str(request.url) not in lost:
            lost.append(str(request.url))
            server(request)

    with listening(unversioned.store, DELETION["unversioned"], lose_first_try):
        unversioned.store.trash(unversioned.uri, CLAIM, manifest)
    assert unversioned.files() == {}
    assert unversioned.store.restore(unversioned.uri, CLAIM)
    server.carry_out()
    assert unversioned.store.restore(unversioned.uri, CLAIM)
    require_whole(unversioned, manifest)
    require_forgotten(unversioned)


def test_a_move_whose_requests_were_all_answered_leaves_nothing_when_it_is_undone(
    new_house: Callable[[Kind], House], kind: Kind
) -> None:
    house = new_house(kind)
    manifest = house.evict()
    assert house.store.restore(house.uri, CLAIM)
    require_whole(house, manifest)
    assert house.in_trash() == set()


@pytest.mark.parametrize("is_asked_again", [False, True])
def test_a_purge_after_a_restore_that_was_cut_off_frees_what_a_trial_has_replaced_since(
    versioned: House, *, is_asked_again: bool
) -> None:
    manifest = versioned.evict()
    numbers = iter(range(10))

    def die_in_the_middle(**_: object) -> None:
        if next(numbers) == 1:
            raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quota_s3.deleting.PAGE", 1)
        patch.setattr("quota_s3.parallel.WORKERS", 1)
        with listening(versioned.store, DELETION["versioned"], die_in_the_middle), pytest.raises(Crash):
            versioned.store.restore(versioned.uri, CLAIM)
    versioned.store = versioned.opened()
    versioned.fill({name: b"later" for name in FILES if not name.endswith("/")})
    if is_asked_again:
        # As when the trial says that it has saved it.
        assert not versioned.store.restore(versioned.uri, CLAIM)
    versioned.store.require_purgeable(CLAIM, manifest)
    versioned.store.purge(CLAIM, manifest)
    left = {(key, version) for key, version, _ in versioned.everything(versioned.prefix)}
    assert {entry.version for entry in manifest.entries}.isdisjoint(version for _, version in left)
    assert {name for name, content in versioned.files().items() if content == b"later"} == {
        name for name in FILES if not name.endswith("/")
    }
    assert versioned.in_trash() == set()

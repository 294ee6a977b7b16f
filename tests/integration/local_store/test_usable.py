"""Whether this process may move anything in a store is known before it is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.local_store.house import CLAIM, House, succeeds
from quota.errors import PathRefused, StoreError
from quota.ports import UsableStore
from quota_local import open_store
from unprivileged import public_folder, unprivileged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ADVICE = "run as a user who may write here, or mend the permissions"


@pytest.fixture
def root() -> Iterator[Path]:
    """A store of one checkpoint that any user may use."""
    with public_folder() as folder:
        for place in (folder, folder / ".trash", folder / "trial-1"):
            place.mkdir(exist_ok=True)
            place.chmod(0o777)
        (folder / "trial-1" / "weights").write_bytes(b"w")
        yield folder


def test_a_store_that_this_process_may_use(root: Path, house: House) -> None:
    with unprivileged():
        store = open_store(f"file://{root}")
        assert isinstance(store, UsableStore)
        store.require_usable()
    house.store.require_usable()
    assert not house.trash.exists()


@pytest.mark.parametrize(
    ("name", "mode"), [(".", 0o555), (".", 0o333), (".trash", 0o555), (".trash", 0o333), (".trash", 0o666)]
)
def test_a_store_of_another_user_is_told_by_its_path(root: Path, name: str, mode: int) -> None:
    store = open_store(f"file://{root}")
    (root / name).chmod(mode)
    with unprivileged(), pytest.raises(StoreError) as refused:
        store.require_usable()
    told = f"cannot move anything into its trash: Permission denied (EACCES) at '{root / name}'; {ADVICE}"
    assert str(refused.value) == f"store file://{root}: {told}"


def test_a_trash_that_is_none_is_refused(root: Path) -> None:
    (root / ".trash").rmdir()
    (root / ".trash").write_bytes(b"")
    (root / ".trash").chmod(0o777)
    with pytest.raises(PathRefused, match="it is no directory"):
        open_store(f"file://{root}").require_usable()


def test_a_rename_that_is_refused_names_both_paths(root: Path) -> None:
    store, uri = open_store(f"file://{root}"), f"file://{root}/trial-1"
    manifest = store.manifest(uri)
    root.chmod(0o555)
    with unprivileged(), pytest.raises(StoreError, match=rf"\(EACCES\) at 'trial-1' to '{CLAIM}'; run as a user"):
        store.trash(uri, CLAIM, manifest)
    root.chmod(0o777)
    with unprivileged():
        store.trash(uri, CLAIM, manifest)
    root.chmod(0o555)
    with unprivileged(), pytest.raises(StoreError, match=rf"\(EACCES\) at '{CLAIM}' to 'trial-1'; run as a user"):
        store.restore(uri, CLAIM)


@pytest.mark.parametrize("name", [".trash", "trial-1", "trial-1/sub"])
def test_what_cannot_be_deleted_is_told_before_it_is_tried(root: Path, name: str) -> None:
    """Once a purge has begun there is no way back."""
    (root / "trial-1" / "sub").mkdir(mode=0o777)
    (root / "trial-1" / "sub").chmod(0o777)
    (root / "trial-1" / "sub" / "state").write_bytes(b"s")
    store = open_store(f"file://{root}")
    manifest = store.manifest(f"file://{root}/trial-1")
    store.trash(f"file://{root}/trial-1", CLAIM, manifest)
    directory = root / ".trash" if name == ".trash" else root / ".trash" / name.replace("trial-1", CLAIM)
    directory.chmod(0o555)
    with unprivileged():
        for refusing in (store.require_purgeable, store.purge):
            with pytest.raises(StoreError, match=ADVICE):
                refusing(CLAIM, manifest)
    directory.chmod(0o777)
    assert store.restore(f"file://{root}/trial-1", CLAIM)
    assert store.manifest(f"file://{root}/trial-1").entries == manifest.entries
    with unprivileged():
        store.require_purgeable(CLAIM, manifest)


def test_a_disk_that_became_read_only_is_told_before_a_purge(house: House, mount: Callable[..., None]) -> None:
    manifest = house.evict()
    mount(house.root, "--bind", str(house.root))
    if not succeeds("mount", "-o", "remount,bind,ro", str(house.root)):
        pytest.skip("nothing can be mounted here")
    with pytest.raises(StoreError, match="mounted read-only"):
        house.store.require_purgeable(CLAIM, manifest)
    assert (house.trashed / "model.pt").exists()

"""Whether this process may move anything in a store is known before it is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.local_store.house import CLAIM, House
from quota.errors import PathRefused, StoreError
from quota.ports import UsableStore
from quota_local import open_store
from unprivileged import public_folder, unprivileged

if TYPE_CHECKING:
    from collections.abc import Iterator
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

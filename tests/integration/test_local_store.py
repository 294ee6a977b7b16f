from __future__ import annotations

import ctypes
import errno
import os
import pwd
import resource
import shutil
import socket
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quota.domain.locations
import quota_local.boundary
import quota_local.kernel
import quota_local.moving
import quota_local.trashing
from quota.domain.manifest import Manifest
from quota.errors import CheckpointChanged, CheckpointGone, PathRefused, StoreError
from quota_local import LocalStore, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLAIM = "019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10"
REFUSED_ERRNOS = [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EIO, errno.EXDEV]


class Crash(BaseException):
    """Stands for the death of the process: no handler of errors sees it."""


class House(NamedTuple):
    root: Path
    store: LocalStore
    checkpoint: Path
    uri: str
    canary: Path

    @property
    def trash(self) -> Path:
        return self.root / ".trash"

    @property
    def trashed(self) -> Path:
        return self.trash / CLAIM

    def evict(self) -> Manifest:
        manifest = self.store.manifest(self.uri)
        self.store.trash(self.uri, CLAIM, manifest)
        return manifest


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A store with one checkpoint, and beside it a canary that nothing may ever touch."""
    root, canary = tmp_path / "root", tmp_path / "canary"
    checkpoint = root / "experiment" / "trial-1"
    for directory in (checkpoint / "sub", canary / "trial-1" / "sub"):
        directory.mkdir(parents=True)
        (directory.parent / "model.pt").write_bytes(b"weights")
        (directory / "state.bin").write_bytes(b"state")
    before = snapshot(canary)
    yield House(root, open_store(f"file://{root}"), checkpoint, f"file://{checkpoint}", canary)
    assert snapshot(canary) == before


def snapshot(top: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below `top`: kind and content by path, links not followed."""
    found: dict[str, tuple[int, bytes]] = {}
    for directory, names, files in os.walk(top):
        for path in (Path(directory, name) for name in [*names, *files]):
            kind = stat.S_IFMT(path.lstat().st_mode)
            content = b""
            if kind == stat.S_IFREG:
                content = path.read_bytes()
            elif kind == stat.S_IFLNK:
                content = os.fsencode(path.readlink())
            found[str(path.relative_to(top))] = (kind, content)
    return found


def open_descriptors() -> set[int]:
    return {int(entry.name) for entry in Path("/dev/fd").iterdir()}


def succeeds(*command: str) -> bool:
    """Run a command of the system's, which may be missing, or not permitted to us."""
    program = shutil.which(command[0])
    if program is None:
        return False
    return subprocess.run([program, *command[1:]], check=False, capture_output=True).returncode == 0


def failing(code: int) -> Callable[..., None]:
    def fail(*_args: object, **_keywords: object) -> None:
        raise OSError(code, os.strerror(code), "some-name")

    return fail


def before_call(
    patch: pytest.MonkeyPatch, name: str, act: Callable[[], object], when: Callable[[object], bool] | None = None
) -> None:
    """Do `act` once, right before `os.<name>` is first called (with a first argument for which `when` holds)."""
    real = getattr(os, name)
    todo = [act]

    def wrapper(*args: object, **keywords: object) -> object:
        if todo and (when is None or when(args[0])):
            todo.pop()()
        return real(*args, **keywords)

    patch.setattr(os, name, wrapper)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Which directories were synced, by device and inode."""
    seen: set[tuple[int, int]] = set()
    real = os.fsync

    def fsync(fd: int) -> None:
        status = os.fstat(fd)
        seen.add((status.st_dev, status.st_ino))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def key(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Mount something at a path; where that is not permitted, let the path look mounted to the store."""
    mounted: list[Path] = []
    pretended: set[tuple[int, int]] = set()
    real = quota_local.kernel.mount_id

    def mount_id(dir_fd: int, name: bytes = b"") -> int | None:
        status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False) if name else os.fstat(dir_fd)
        return -1 if (status.st_dev, status.st_ino) in pretended else real(dir_fd, name)

    def do(target: Path, *arguments: str) -> None:
        if succeeds("mount", *arguments, str(target)):
            mounted.append(target)
        else:
            pretended.add(key(target))
            monkeypatch.setattr(quota_local.boundary, "mount_id", mount_id)
            monkeypatch.setattr(quota_local.trashing, "mount_id", mount_id)

    yield do
    for target in reversed(mounted):
        assert succeeds("umount", "--lazy", str(target))


TMPFS = ("-t", "tmpfs", "none")


# The root


@pytest.mark.parametrize(
    "uri",
    [
        "file:///",
        "file:///no/such/directory",
        "file:///etc/passwd",
        "file:///etc/passwd/below",
        "file:///etc/",
        "file:///etc/../etc",
        "file://host/etc",
        "/etc",
        "s3://bucket/prefix/",
        "",
    ],
)
def test_refuses_a_root_that_is_none(uri: str) -> None:
    with pytest.raises(PathRefused, match="store: field `uri`") as refused:
        open_store(uri)
    assert refused.value.value == uri


def test_refuses_a_home_directory_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, link = tmp_path / "home", tmp_path / "link"
    home.mkdir()
    link.symlink_to(home)
    open_store(f"file://{home}")
    monkeypatch.setenv("HOME", str(home))
    for root in (home, link):
        with pytest.raises(PathRefused, match="home directory"):
            open_store(f"file://{root}")


def test_refuses_the_home_directory_of_any_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = pwd.struct_passwd(("hpo", "x", 1, 1, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [account])
    with pytest.raises(PathRefused, match="home directory"):
        open_store(f"file://{tmp_path}")


def test_a_root_that_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "resolve", failing(errno.EACCES))
    with pytest.raises(StoreError, match="EACCES"):
        open_store(f"file://{tmp_path}")


def test_links_to_the_root_are_followed_once(house: House, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(house.root)
    store = open_store(f"file://{link}")
    uri = f"file://{link}/experiment/trial-1"
    manifest = store.manifest(uri)
    link.unlink()
    (tmp_path / "elsewhere").mkdir()
    link.symlink_to(tmp_path / "elsewhere")
    assert store.manifest(uri) == manifest
    with pytest.raises(PathRefused, match="as written there"):
        store.manifest(house.uri)


def test_another_directory_in_the_roots_place_is_not_the_store(house: House) -> None:
    manifest = house.evict()
    house.root.rename(house.root.with_name("unmounted"))
    with pytest.raises(StoreError, match="ENOENT"):
        house.store.trashed(CLAIM)
    house.root.mkdir()
    for call in (
        lambda: house.store.trashed(CLAIM),
        lambda: house.store.purge(CLAIM, manifest),
        lambda: house.store.restore(house.uri, CLAIM),
        lambda: house.store.manifest(house.uri),
    ):
        with pytest.raises(StoreError, match="is its disk mounted"):
            call()


def test_a_root_may_be_a_mount_point(tmp_path: Path, mount: Callable[..., None]) -> None:
    mount(tmp_path, *TMPFS)
    (tmp_path / "a").mkdir()
    store = open_store(f"file://{tmp_path}")
    store.trash(f"file://{tmp_path}/a", CLAIM, Manifest())
    assert store.restore(f"file://{tmp_path}/a", CLAIM)


# Symbolic links


def refuse_all(house: House, uri: str, manifest: Manifest) -> None:
    with pytest.raises(PathRefused):
        house.store.manifest(uri)
    with pytest.raises(PathRefused):
        house.store.trash(uri, CLAIM, manifest)


def test_a_linked_parent_is_refused(house: House) -> None:
    (house.root / "link").symlink_to(house.canary)
    refuse_all(house, f"file://{house.root}/link/trial-1", house.store.manifest(house.uri))


def test_a_linked_checkpoint_is_refused(house: House) -> None:
    (house.root / "link").symlink_to(house.canary / "trial-1")
    refuse_all(house, f"file://{house.root}/link", house.store.manifest(house.uri))


def test_a_link_within_the_store_is_refused_too(house: House) -> None:
    (house.root / "link").symlink_to("experiment")
    refuse_all(house, f"file://{house.root}/link/trial-1", house.store.manifest(house.uri))
    assert house.checkpoint.is_dir()


def swap_for_twin(house: House, tmp_path: Path) -> Path:
    """Put a link to a directory with the very same inodes where the experiment was; return that directory."""
    twin = tmp_path / "twin"
    house.checkpoint.parent.rename(twin)
    house.checkpoint.parent.symlink_to(twin)
    return twin


def test_a_parent_swapped_for_a_link_after_the_decision(house: House, tmp_path: Path) -> None:
    manifest = house.store.manifest(house.uri)
    twin = swap_for_twin(house, tmp_path)
    before = snapshot(twin)
    refuse_all(house, house.uri, manifest)
    assert snapshot(twin) == before


def test_a_parent_swapped_for_a_link_at_the_last_moment(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = house.store.manifest(house.uri)
    before_call(monkeypatch, "open", lambda: swap_for_twin(house, tmp_path), lambda name: name == b"experiment")
    with pytest.raises(CheckpointChanged, match="replaced"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert (tmp_path / "twin" / "trial-1" / "model.pt").exists()


def test_a_parent_swapped_for_a_directory_at_the_last_moment(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = house.store.manifest(house.uri)

    def swap() -> None:
        house.checkpoint.parent.rename(tmp_path / "moved")
        shutil.copytree(house.canary, house.checkpoint.parent)

    before_call(monkeypatch, "open", swap, lambda name: name == b"experiment")
    with pytest.raises(CheckpointChanged, match="replaced"):
        house.store.trash(house.uri, CLAIM, manifest)


def test_restore_does_not_follow_a_linked_parent(house: House) -> None:
    house.evict()
    house.checkpoint.parent.rmdir()
    house.checkpoint.parent.symlink_to(house.canary)
    with pytest.raises(PathRefused, match="symbolic link"):
        house.store.restore(house.uri, CLAIM)
    assert house.trashed.is_dir()


def test_links_inside_are_removed_and_what_they_point_to_is_not(house: House) -> None:
    (house.checkpoint / "to-file").symlink_to(house.canary / "trial-1" / "model.pt")
    (house.checkpoint / "to-directory").symlink_to(house.canary)
    (house.checkpoint / "sub" / "to-nothing").symlink_to("nowhere")
    (house.checkpoint / "to-root").symlink_to("/")
    manifest = house.evict()
    sizes = {entry.path: entry.size_bytes for entry in manifest.entries}
    links = dict.fromkeys(["sub/to-nothing", "to-directory", "to-file", "to-root"], 0)
    assert sizes == {"model.pt": 7, "sub/state.bin": 5, **links}
    assert {entry.path for entry in manifest.entries if entry.version.startswith("link-")} == set(links)
    house.store.purge(CLAIM, manifest)
    assert list(house.trash.iterdir()) == []


def test_a_link_put_into_the_trash_is_not_followed(house: House) -> None:
    manifest = house.evict()
    shutil.rmtree(house.trashed / "sub")
    (house.trashed / "sub").symlink_to(house.canary / "trial-1" / "sub")
    with pytest.raises(CheckpointChanged, match="'sub'"):
        house.store.purge(CLAIM, manifest)
    shutil.rmtree(house.trashed)
    house.trashed.symlink_to(house.canary / "trial-1")
    with pytest.raises(CheckpointChanged):
        house.store.purge(CLAIM, manifest)


def test_a_trash_that_is_a_link_is_refused(house: House) -> None:
    manifest = house.store.manifest(house.uri)
    house.trash.symlink_to(house.canary)
    for call in (
        lambda: house.store.trash(house.uri, CLAIM, manifest),
        lambda: house.store.restore(house.uri, CLAIM),
        lambda: house.store.purge(CLAIM, manifest),
        lambda: house.store.trashed(CLAIM),
    ):
        with pytest.raises(PathRefused, match=r"\.trash"):
            call()
    assert house.checkpoint.is_dir()


# What moves while it is read


def is_directory(path: Path) -> Callable[[object], bool]:
    wanted = key(path)

    def when(fd: object) -> bool:
        status = os.fstat(fd) if isinstance(fd, int) else None
        return status is not None and (status.st_dev, status.st_ino) == wanted

    return when


def test_a_directory_moved_out_while_it_is_listed(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub = house.checkpoint / "sub"
    before_call(monkeypatch, "scandir", lambda: sub.rename(tmp_path / "sub"), is_directory(sub))
    with pytest.raises(CheckpointChanged, match="moved"):
        house.store.manifest(house.uri)


def test_a_directory_moved_out_of_the_trash_while_it_is_purged(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = house.evict()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "sub").mkdir(parents=True)
    sub = house.trashed / "sub"

    def move() -> None:
        sub.rename(elsewhere / "moved")

    before_call(monkeypatch, "unlink", move, lambda name: name == b"state.bin")
    with pytest.raises(CheckpointChanged, match="moved"):
        house.store.purge(CLAIM, manifest)
    assert (elsewhere / "sub").is_dir()


def test_a_checkpoint_replaced_between_look_and_rename_is_put_back(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = house.store.manifest(house.uri)
    real: Callable[..., None] = os.rename

    def rename(*args: object, **keywords: object) -> None:
        monkeypatch.setattr(os, "rename", real)
        house.checkpoint.rename(tmp_path / "old")
        house.checkpoint.mkdir()
        (house.checkpoint / "model.pt").write_bytes(b"later!!")
        real(*args, **keywords)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(CheckpointChanged, match="replaced"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert (house.checkpoint / "model.pt").read_bytes() == b"later!!"
    assert not house.store.trashed(CLAIM)


def test_a_checkpoint_that_vanishes_between_look_and_rename(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.store.manifest(house.uri)
    monkeypatch.setattr(os, "rename", failing(errno.ENOENT))
    with pytest.raises(CheckpointGone):
        house.store.trash(house.uri, CLAIM, manifest)


def test_a_file_that_vanishes_while_it_is_listed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    model = house.checkpoint / "model.pt"
    before_call(monkeypatch, "stat", model.unlink, lambda name: name == b"model.pt")
    with pytest.raises(CheckpointChanged, match=r"model\.pt"):
        house.store.manifest(house.uri)


def test_a_file_on_the_way_means_that_nothing_is_there(house: House) -> None:
    with pytest.raises(CheckpointGone, match="no directory"):
        house.store.manifest(f"{house.uri}/model.pt/below")


def test_a_file_written_to_after_it_was_trashed_is_kept(house: House) -> None:
    with (house.checkpoint / "sub" / "state.bin").open("ab", buffering=0) as writer:
        manifest = house.evict()
        writer.write(b"!")
        with pytest.raises(CheckpointChanged, match=r"sub/state\.bin"):
            house.store.purge(CLAIM, manifest)
    assert house.store.restore(house.uri, CLAIM)
    assert (house.checkpoint / "sub" / "state.bin").read_bytes() == b"state!"
    assert (house.checkpoint / "model.pt").exists()


def test_a_file_rewritten_in_place_at_equal_size_is_another_version(house: House) -> None:
    manifest = house.store.manifest(house.uri)
    model = house.checkpoint / "model.pt"
    modified_ns = model.stat().st_mtime_ns
    with model.open("r+b") as file:
        file.write(b"WEIGHTS")
    os.utime(model, ns=(modified_ns, modified_ns + 1))
    with pytest.raises(CheckpointChanged, match=r"model\.pt"):
        house.store.trash(house.uri, CLAIM, manifest)


def test_what_changes_in_the_trash_during_a_purge_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    state = house.trashed / "sub" / "state.bin"
    before_call(monkeypatch, "unlink", lambda: state.write_bytes(b"longer than before"))
    with pytest.raises(CheckpointChanged, match=r"sub/state\.bin"):
        house.store.purge(CLAIM, manifest)
    assert state.read_bytes() == b"longer than before"


def test_what_arrives_in_the_trash_during_a_purge_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    new = house.trashed / "sub" / "new.pt"
    before_call(monkeypatch, "unlink", lambda: new.write_bytes(b"new"))
    with pytest.raises(CheckpointChanged):
        house.store.purge(CLAIM, manifest)
    assert new.read_bytes() == b"new"


# Kinds of files


@pytest.fixture
def put_special(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    def put(kind: str, path: Path) -> None:
        if kind == "FIFO":
            os.mkfifo(path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryDirectory() as short:
                # The path of a socket has 107 bytes at most, and pytest's are longer.
                server.bind(f"{short}/s")
                Path(short, "s").rename(path)
        else:
            path.touch()
            pretend_device(path)

    def pretend_device(path: Path) -> None:
        """Only the superuser can make one, and not in every container."""
        device = key(path)
        real: Callable[..., os.stat_result] = os.stat

        def looked_at(*args: object, **keywords: object) -> os.stat_result:
            status = real(*args, **keywords)
            if (status.st_dev, status.st_ino) != device:
                return status
            return os.stat_result((stat.S_IFCHR | 0o600, *status[1:]))

        monkeypatch.setattr(os, "stat", looked_at)

    return put


@pytest.mark.parametrize("kind", ["FIFO", "socket", "character device"])
@pytest.mark.parametrize("place", ["experiment/trial-1/sub/odd", "odd"])
def test_special_files_are_refused(
    house: House, put_special: Callable[[str, Path], None], kind: str, place: str
) -> None:
    odd = house.root / place
    put_special(kind, odd)
    uri = house.uri if place.startswith("experiment") else f"file://{odd}"
    with pytest.raises(PathRefused, match=kind) as refused:
        house.store.manifest(uri)
    assert refused.value.value == ("sub/odd" if uri == house.uri else ".")
    with pytest.raises(PathRefused, match=kind):
        house.store.trash(uri, CLAIM, Manifest())
    assert os.path.lexists(odd)


def test_a_special_file_in_the_trash_is_kept(house: House) -> None:
    manifest = house.evict()
    os.mkfifo(house.trashed / "sub" / "fifo")
    with pytest.raises(CheckpointChanged, match="sub/fifo"):
        house.store.purge(CLAIM, manifest)
    assert (house.trashed / "model.pt").exists()


def test_any_file_name_is_listed_apart_restored_and_purged(house: House) -> None:
    names = [b"\xff", b"%FF", b"a b", b"a\nb", b"-rf", b"\xc3\xa9", b"~", b"...", b"x" * 255]
    top = os.fsencode(house.checkpoint)
    for name in names:
        Path(os.fsdecode(top + b"/" + name)).write_bytes(name)
    before = snapshot(house.checkpoint)
    manifest = house.evict()
    paths = [entry.path for entry in manifest.entries]
    assert paths == sorted(paths)
    assert {"%FF", "%25FF", "a b", "a%0Ab", "-rf", "%C3%A9", "~", "..."} < set(paths)
    assert len(set(paths)) == len(names) + 2
    assert house.store.restore(house.uri, CLAIM)
    assert snapshot(house.checkpoint) == before
    house.evict()
    house.store.purge(CLAIM, manifest)
    assert list(house.trash.iterdir()) == []


def test_a_checkpoint_name_that_is_no_utf8(house: House) -> None:
    Path(os.fsdecode(os.fsencode(house.root) + b"/\xff")).mkdir()
    uri = f"file://{house.root}/%FF"
    house.store.trash(uri, CLAIM, house.store.manifest(uri))
    assert house.store.restore(uri, CLAIM)
    assert Path(os.fsdecode(os.fsencode(house.root) + b"/\xff")).is_dir()


def test_a_single_file_is_a_checkpoint(house: House) -> None:
    file = house.root / "trial-2.pt"
    file.write_bytes(b"one file")
    uri = f"file://{file}"
    manifest = house.store.manifest(uri)
    assert [(entry.path, entry.size_bytes) for entry in manifest.entries] == [(".", 8)]
    house.store.trash(uri, CLAIM, manifest)
    assert house.store.restore(uri, CLAIM)
    assert file.read_bytes() == b"one file"
    house.store.trash(uri, CLAIM, manifest)
    with pytest.raises(CheckpointChanged, match=r"'\.'"):
        house.store.purge(CLAIM, Manifest())
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_empty_directories_survive_a_restore_and_are_purged(house: House) -> None:
    (house.checkpoint / "empty" / "nested").mkdir(parents=True)
    before = snapshot(house.checkpoint)
    manifest = house.evict()
    house.store.restore(house.uri, CLAIM)
    assert snapshot(house.checkpoint) == before
    house.evict()
    house.store.purge(CLAIM, manifest)
    assert list(house.trash.iterdir()) == []


def test_the_content_of_a_hard_link_lives_on_elsewhere(house: House, tmp_path: Path) -> None:
    kept = tmp_path / "best.pt"
    kept.hardlink_to(house.checkpoint / "model.pt")
    (house.checkpoint / "again.pt").hardlink_to(kept)
    house.store.purge(CLAIM, house.evict())
    assert kept.read_bytes() == b"weights"
    assert kept.stat().st_nlink == 1


def test_two_thousand_levels_need_few_descriptors_and_no_recursion(house: House) -> None:
    depth = 2_000
    fd = os.open(house.checkpoint, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("level", dir_fd=fd)
        below = os.open("level", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(open_descriptors())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 12, hard))
    try:
        manifest = house.evict()
        assert manifest.entries[0].path == "level/" * depth + "bottom"
        house.store.restore(house.uri, CLAIM)
        house.evict()
        house.store.purge(CLAIM, manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(house.trash.iterdir()) == []


_NAMES = st.binary(min_size=1, max_size=4).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in {b".", b".."}
)
_TREES = st.recursive(
    st.binary(max_size=20) | st.sampled_from(["../canary", "/", "gone"]),
    lambda below: st.dictionaries(_NAMES, below, max_size=4),
    max_leaves=12,
)


def build(path: Path, tree: object) -> None:
    if isinstance(tree, bytes):
        path.write_bytes(tree)
    elif isinstance(tree, str):
        path.symlink_to(tree)
    elif isinstance(tree, dict):
        path.mkdir()
        for name, below in tree.items():
            build(path / os.fsdecode(name), below)


@given(tree=st.dictionaries(_NAMES, _TREES, max_size=4))
def test_any_tree_comes_back_whole_or_goes_without_a_trace(tree: dict[bytes, object]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        (top / "root").mkdir()
        (top / "canary").mkdir()
        (top / "canary" / "file").write_bytes(b"canary")
        build(top / "root" / "trial", tree)
        before = snapshot(top)
        store, uri = open_store(f"file://{top}/root"), f"file://{top}/root/trial"
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        assert store.restore(uri, CLAIM)
        after = snapshot(top)
        after.pop("root/.trash")
        assert after == before
        store.trash(uri, CLAIM, manifest)
        store.purge(CLAIM, manifest)
        assert set(snapshot(top)) == {"canary", "canary/file", "root", "root/.trash"}


# Where the store ends


def bind(source: Path, target: Path, mount: Callable[..., None]) -> None:
    mount(target, "--bind", str(source))


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
@pytest.mark.parametrize("place", ["experiment", "experiment/trial-1", "experiment/trial-1/sub"])
def test_nothing_is_taken_from_another_mount(house: House, mount: Callable[..., None], kind: str, place: str) -> None:
    target = house.root / place
    if kind == "tmpfs":
        mount(target, *TMPFS)
        house.checkpoint.mkdir(parents=True, exist_ok=True)
    else:
        source = {"experiment": "", "experiment/trial-1": "trial-1", "experiment/trial-1/sub": "trial-1/sub"}[place]
        bind(house.canary / source, target, mount)
    before = snapshot(house.root)
    with pytest.raises(PathRefused, match="mount point"):
        house.store.manifest(house.uri)
    with pytest.raises(PathRefused, match="mount point"):
        house.store.trash(house.uri, CLAIM, Manifest())
    assert snapshot(house.root) == before


def test_a_file_mounted_over_another_is_refused(house: House, mount: Callable[..., None]) -> None:
    bind(house.canary / "trial-1" / "model.pt", house.checkpoint / "model.pt", mount)
    with pytest.raises(PathRefused, match="mount point") as refused:
        house.store.manifest(house.uri)
    assert refused.value.value == "model.pt"


def test_what_was_mounted_in_the_trash_is_not_purged(house: House, mount: Callable[..., None]) -> None:
    house.evict()
    source = house.canary / "trial-1" / "sub"
    manifest = open_store(f"file://{house.canary.parent}").manifest(f"file://{house.canary}/trial-1")
    bind(source, house.trashed / "sub", mount)
    with pytest.raises(CheckpointChanged, match="mount point"):
        house.store.purge(CLAIM, manifest)
    assert (house.trashed / "model.pt").exists()


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_a_trash_on_another_file_system_is_refused(house: House, mount: Callable[..., None], kind: str) -> None:
    manifest = house.store.manifest(house.uri)
    house.trash.mkdir()
    if kind == "tmpfs":
        mount(house.trash, *TMPFS)
    else:
        bind(house.canary, house.trash, mount)
    with pytest.raises(PathRefused, match=r"trash of store .*mount point"):
        house.store.trash(house.uri, CLAIM, manifest)
    assert house.checkpoint.is_dir()


def test_another_device_is_refused_where_mounts_have_no_ids(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_local.kernel, "_statx", None)
    house.store.trash(house.uri, CLAIM, house.store.manifest(house.uri))
    assert house.store.restore(house.uri, CLAIM)
    foreign = key(house.checkpoint / "model.pt")
    real: Callable[..., os.stat_result] = os.stat

    def looked_at(*args: object, **keywords: object) -> os.stat_result:
        status = real(*args, **keywords)
        if (status.st_dev, status.st_ino) != foreign:
            return status
        return os.stat_result((*status[:2], status.st_dev + 1, *status[3:]))

    monkeypatch.setattr(os, "stat", looked_at)
    with pytest.raises(PathRefused, match="another file system"):
        house.store.manifest(house.uri)


@pytest.mark.parametrize("place", ["experiment/trial-1", "experiment/trial-1/sub"])
def test_a_checkpoint_is_and_holds_no_home_directory(house: House, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("HOME", str(house.root / place))
    store = open_store(f"file://{house.root}")
    with pytest.raises(PathRefused, match="home directory"):
        store.manifest(house.uri)


def test_a_checkpoint_may_lie_in_a_home_directory(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(house.checkpoint.parent))
    assert open_store(f"file://{house.root}").manifest(house.uri).size_bytes == 12


def test_the_trash_of_a_store_inside_is_never_taken_along(house: House) -> None:
    inner = open_store(f"file://{house.root}/experiment")
    inner.trash(house.uri, CLAIM, inner.manifest(house.uri))
    with pytest.raises(PathRefused, match="another store's trash"):
        house.store.manifest(f"file://{house.root}/experiment")
    assert inner.restore(house.uri, CLAIM)


@pytest.mark.parametrize("place", [".trash", f".trash/{CLAIM}", f".trash/{CLAIM}/sub"])
def test_the_trash_is_known_by_more_than_its_name(house: House, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    # So it is on a file system that ignores case, where `.TRASH` passes the rules for URIs.
    house.evict()
    monkeypatch.setattr(quota.domain.locations, "TRASH_NAME", "another name")
    uri = f"file://{house.root}/{place}"
    with pytest.raises(PathRefused, match="the store's trash"):
        house.store.manifest(uri)
    with pytest.raises(PathRefused, match="the store's trash"):
        house.store.trash(uri, "other", Manifest())


# Crashes and failures


def crash_at(patch: pytest.MonkeyPatch, name: str, call: int) -> None:
    real, calls = getattr(os, name), iter(range(1_000))

    def wrapper(*args: object, **keywords: object) -> object:
        if next(calls) == call:
            raise Crash
        return real(*args, **keywords)

    patch.setattr(os, name, wrapper)


def test_everything_renamed_is_synced(house: House, synced: set[tuple[int, int]]) -> None:
    manifest = house.evict()
    assert synced == {key(house.root), key(house.trash), key(house.checkpoint.parent)}
    assert stat.S_IMODE(house.trash.stat().st_mode) == 0o700
    house.checkpoint.parent.rmdir()
    synced.clear()
    house.store.restore(house.uri, CLAIM)
    assert synced == {key(house.root), key(house.checkpoint.parent), key(house.trash)}
    house.evict()
    synced.clear()
    house.store.purge(CLAIM, manifest)
    assert synced == {key(house.trash)}


@pytest.mark.parametrize("call", [0, 1])
def test_a_crash_between_the_rename_into_the_trash_and_its_sync(
    house: House, synced: set[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    house.trash.mkdir()
    manifest = house.store.manifest(house.uri)
    with monkeypatch.context() as patch:
        crash_at(patch, "fsync", call)
        with pytest.raises(Crash):
            house.store.trash(house.uri, CLAIM, manifest)
    synced.clear()
    house.store.trash(house.uri, CLAIM, manifest)
    assert synced == {key(house.trash), key(house.checkpoint.parent)}
    assert house.store.restore(house.uri, CLAIM)


@pytest.mark.parametrize("call", [0, 1])
def test_a_crash_between_the_rename_back_and_its_sync(
    house: House, synced: set[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    manifest = house.evict()
    with monkeypatch.context() as patch:
        crash_at(patch, "fsync", call)
        with pytest.raises(Crash):
            house.store.restore(house.uri, CLAIM)
    synced.clear()
    assert not house.store.restore(house.uri, CLAIM)
    assert synced == {key(house.trash), key(house.checkpoint.parent)}
    assert house.store.manifest(house.uri) == manifest


@pytest.mark.parametrize(("name", "call"), [("unlink", 0), ("unlink", 1), ("rmdir", 0), ("rmdir", 1), ("fsync", 0)])
def test_a_crash_while_purging(house: House, monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    manifest = house.evict()
    with monkeypatch.context() as patch:
        crash_at(patch, name, call)
        with pytest.raises(Crash):
            house.store.purge(CLAIM, manifest)
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_trash_again_where_the_way_is_gone_by_now(house: House) -> None:
    manifest = house.evict()
    house.checkpoint.parent.rmdir()
    house.store.trash(house.uri, CLAIM, manifest)
    house.checkpoint.parent.symlink_to(house.canary)
    house.store.trash(house.uri, CLAIM, manifest)
    assert house.store.trashed(CLAIM)


@pytest.mark.parametrize("code", REFUSED_ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["mkdir", "rename", "fsync", "scandir", "open"])
def test_a_refused_trash_names_store_path_and_cause_and_moves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    manifest = house.store.manifest(house.uri)
    before = snapshot(house.checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(code))
        with pytest.raises(StoreError) as refused:
            house.store.trash(house.uri, CLAIM, manifest)
    message = str(refused.value)
    for part in (f"store file://{house.root}", house.uri, errno.errorcode[code], os.strerror(code), "'some-name'"):
        assert part in message
    assert snapshot(house.checkpoint) == before
    assert not house.store.trashed(CLAIM)


@pytest.mark.parametrize("code", REFUSED_ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["quota_local.moving.rename_noreplace", "os.fsync", "os.mkdir", "os.open"])
def test_a_refused_restore_leaves_the_trash_as_it_is(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    house.evict()
    house.checkpoint.parent.rmdir()
    before = snapshot(house.trash)
    with monkeypatch.context() as patch:
        patch.setattr(name, failing(code))
        with pytest.raises(StoreError, match=errno.errorcode[code]):
            house.store.restore(house.uri, CLAIM)
    assert snapshot(house.trash) == before
    assert house.store.restore(house.uri, CLAIM)


@pytest.mark.parametrize("call", [0, 1])
def test_a_restore_that_cannot_be_made_durable_is_undone(
    house: House, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    house.evict()
    real, calls = os.fsync, iter(range(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: failing(errno.EIO)() if next(calls) == call else real(fd))
        with pytest.raises(StoreError, match="EIO"):
            house.store.restore(house.uri, CLAIM)
    assert house.store.trashed(CLAIM)
    assert not house.checkpoint.exists()
    assert house.store.restore(house.uri, CLAIM)


@pytest.mark.parametrize("code", REFUSED_ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["unlink", "rmdir", "fsync", "scandir", "open"])
def test_a_refused_purge_goes_on_when_called_again(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    manifest = house.evict()
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(code))
        with pytest.raises(StoreError, match=errno.errorcode[code]):
            house.store.purge(CLAIM, manifest)
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_a_read_only_file_system(tmp_path: Path, mount: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    mount(tmp_path, *TMPFS)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"1")
    store, uri = open_store(f"file://{tmp_path}"), f"file://{tmp_path}/a"
    manifest = store.manifest(uri)
    if not succeeds("mount", "-o", "remount,ro", str(tmp_path)):
        monkeypatch.setattr(os, "mkdir", failing(errno.EROFS))
    with pytest.raises(StoreError, match=r"EROFS.*read-only"):
        store.trash(uri, CLAIM, manifest)
    assert store.manifest(uri) == manifest


def test_another_sweeper_purging_the_same_claim(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    before_call(monkeypatch, "unlink", lambda: shutil.rmtree(house.trashed))
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_another_sweeper_that_is_always_a_little_faster(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(150):
        (house.checkpoint / "sub" / f"{number}").touch()
    manifest = house.evict()
    real: Callable[..., None] = os.unlink

    def unlink(name: bytes, *, dir_fd: int) -> None:
        real(name, dir_fd=dir_fd)
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_another_sweeper_is_done_before_the_directory_is_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    before_call(monkeypatch, "open", lambda: shutil.rmtree(house.trashed), lambda name: name == b"sub")
    house.store.purge(CLAIM, manifest)
    assert not house.store.trashed(CLAIM)


def test_two_threads_purge_one_claim(house: House) -> None:
    for number in range(300):
        (house.checkpoint / "sub" / f"{number}").write_bytes(b"x")
    manifest, barrier = house.evict(), Barrier(2)

    def purge() -> None:
        barrier.wait()
        house.store.purge(CLAIM, manifest)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(purge) for _ in range(2)]:
            done.result()
    assert not house.store.trashed(CLAIM)


def test_files_that_are_listed_and_never_found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = house.evict()
    monkeypatch.setattr(os, "scandir", failing(errno.ENOENT))
    with pytest.raises(StoreError, match="keep vanishing"):
        house.store.purge(CLAIM, manifest)


# A rename that replaces nothing, where the kernel has none


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_local.kernel, "_renameat2", None)


@pytest.mark.usefixtures("old_kernel")
@pytest.mark.parametrize("place", ["experiment/trial-1", "experiment/trial-1/model.pt"])
def test_restore_replaces_nothing_on_an_old_kernel(house: House, place: str) -> None:
    uri, target = f"file://{house.root}/{place}", house.root / place
    manifest = house.store.manifest(uri)
    house.store.trash(uri, CLAIM, manifest)
    if place.endswith("pt"):
        target.write_bytes(b"later")
    else:
        target.mkdir()
    with pytest.raises(CheckpointChanged, match="something else"):
        house.store.restore(uri, CLAIM)
    assert house.store.trashed(CLAIM)
    if target.is_dir():
        target.rmdir()
    else:
        assert target.read_bytes() == b"later"
        target.unlink()
    assert house.store.restore(uri, CLAIM)
    assert house.store.manifest(uri) == manifest
    assert not house.store.trashed(CLAIM)


@pytest.mark.usefixtures("old_kernel")
def test_a_crash_between_link_and_unlink_on_an_old_kernel(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    model = house.checkpoint / "model.pt"
    uri = f"file://{model}"
    house.store.trash(uri, CLAIM, house.store.manifest(uri))
    with monkeypatch.context() as patch:
        crash_at(patch, "unlink", 0)
        with pytest.raises(Crash):
            house.store.restore(uri, CLAIM)
    assert house.store.restore(uri, CLAIM)
    assert model.read_bytes() == b"weights"
    assert not house.store.trashed(CLAIM)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_the_flag(house: House, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def renameat2(*_args: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(quota_local.kernel, "_renameat2", renameat2)
    house.evict()
    assert house.store.restore(house.uri, CLAIM)


def test_a_new_empty_directory_is_something_else_too(house: House) -> None:
    house.evict()
    house.checkpoint.mkdir()
    with pytest.raises(CheckpointChanged, match="something else"):
        house.store.restore(house.uri, CLAIM)


def test_a_file_in_the_way_of_a_restore(house: House) -> None:
    house.evict()
    house.checkpoint.parent.rmdir()
    house.checkpoint.parent.write_bytes(b"in the way")
    with pytest.raises(CheckpointChanged, match="no directory"):
        house.store.restore(house.uri, CLAIM)
    assert house.store.trashed(CLAIM)


def test_no_descriptor_is_left_open(house: House) -> None:
    def count() -> int:
        return len(open_descriptors())

    (house.root / "link").symlink_to(house.canary)
    before = count()
    manifest = house.evict()
    house.store.restore(house.uri, CLAIM)
    house.evict()
    (house.trashed / "stranger").touch()
    for call in (
        lambda: house.store.manifest(house.uri),
        lambda: house.store.manifest(f"file://{house.root}/link/a"),
        lambda: house.store.trash(f"file://{house.root}/none/a", "other", manifest),
        lambda: house.store.purge(CLAIM, manifest),
        lambda: house.store.purge(CLAIM, Manifest()),
    ):
        with pytest.raises((StoreError, PathRefused)):
            call()
    assert count() == before

"""What the tests of the local store share: a store with one checkpoint, and errors and crashes to order."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from quota.domain.manifest import Manifest
from quota_local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable

CLAIM = "019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10"
TMPFS = ("-t", "tmpfs", "none")


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


def key(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


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
) -> list[Callable[[], object]]:
    """Do `act` once, right before `os.<name>` is first called (with a first argument for which `when` holds).

    Returns:
        What is still to be done: empty once it was.
    """
    real = getattr(os, name)
    todo = [act]

    def wrapper(*args: object, **keywords: object) -> object:
        if todo and (when is None or when(args[0])):
            todo.pop()()
        return real(*args, **keywords)

    patch.setattr(os, name, wrapper)
    return todo


def crash_at(patch: pytest.MonkeyPatch, name: str, call: int) -> None:
    real, calls = getattr(os, name), iter(range(1_000))

    def wrapper(*args: object, **keywords: object) -> object:
        if next(calls) == call:
            raise Crash
        return real(*args, **keywords)

    patch.setattr(os, name, wrapper)

"""A store on a local disk whose process can be held in the middle of its work.

Daemons find it by its entry point, in place of the adapter for local disks, and are told by variables what to do:
`HELD_IN` is the call of the store in which the first of them to come there is held, once half of that is done, and
`HOLD_FOLDER` has two FIFOs: on `reached` it says which process it is, on `go` it waits. What is deleted is noted in
`deleted`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import quota_local

if TYPE_CHECKING:
    from collections.abc import Callable

    from quota_local.store import LocalStore

HALF_DONE_BY = {"trash": "rename", "purge": "unlink"}
"""By which system call: from there on it must be finished or undone."""


def open_store(root_uri: str) -> LocalStore:
    store = quota_local.open_store(root_uri)
    for name in HALF_DONE_BY:
        setattr(store, name, _watched(name, getattr(store, name)))
    return store


def _watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    system_call = HALF_DONE_BY[name]

    def wrapper(*args: Any, **keywords: Any) -> Any:  # noqa: ANN401 - those of the call
        real = getattr(os, system_call)

        def watched(*names: Any, **directories: Any) -> None:  # noqa: ANN401 - those of the system call
            real(*names, **directories)
            if name == "purge":
                _note(f"{args[0]} {names[0]!r}")
            if os.environ.get("HELD_IN") == name:
                _hold()

        setattr(os, system_call, watched)
        try:
            return call(*args, **keywords)
        finally:
            setattr(os, system_call, real)

    return wrapper


def _hold() -> None:
    folder = Path(os.environ["HOLD_FOLDER"])
    with suppress(FileExistsError):
        (folder / "held").touch(exist_ok=False)
        (folder / "reached").write_text(f"{os.getpid()}")
        (folder / "go").read_text()


def _note(deleted: str) -> None:
    with (Path(os.environ["HOLD_FOLDER"]) / "deleted").open("a") as file:
        file.write(f"{deleted}\n")

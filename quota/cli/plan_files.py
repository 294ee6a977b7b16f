"""Saved plans as files: written whole or not at all, and read as strictly as anything that tells what to delete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from quota.errors import SettingsRefused
from quota.services.whole_files import written_whole

if TYPE_CHECKING:
    from quota.services.saved_plans import ReadPlan


def read_plan(file: str) -> ReadPlan:
    """Read a saved plan.

    Raises:
        SettingsRefused: the file cannot be read, or holds no plan.
    """
    from quota.services.saved_plans import parse_plan

    try:
        text = Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise _refused(file, f"it cannot be read: {_said(error)}") from error
    return parse_plan(text, file)


def require_free(file: str, *, force: bool) -> None:
    """Check that a plan may be saved there, before it is made.

    Raises:
        SettingsRefused: something is there already that nobody has said to replace, or nothing can be there.
    """
    try:
        is_there = os.path.lexists(file)
    except ValueError as error:
        raise _refused(file, f"it cannot be written: {_said(error)}") from error
    if is_there and not force:
        raise _refused(file, "something is there already; name another file, or replace it with --force")


def write_plan(file: str, text: bytes, *, force: bool) -> None:
    """Save a plan. Whoever reads the file meanwhile, or after a crash, finds what was there before, or all of it.

    Raises:
        SettingsRefused: the file cannot be written, or is there already and is not to be replaced.
    """
    try:
        with written_whole(Path(file), replace=force) as stream:
            stream.write(text)
    except FileExistsError as error:
        raise _refused(file, "something is there by now; name another file, or replace it with --force") from error
    except (OSError, ValueError) as error:
        raise _refused(file, f"it cannot be written: {_said(error)}") from error


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _refused(file: str, reason: str) -> SettingsRefused:
    return SettingsRefused("saved plan", "file", file, reason)

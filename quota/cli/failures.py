"""Errors as the command line tells them: as a message for people, or as JSON for machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quota.cli.exit_codes import FAILED, USAGE
from quota.errors import (
    BadInput,
    IdentityRefused,
    NumberRefused,
    PlanStale,
    QuotaError,
    SettingsRefused,
    TimeRefused,
)


class Unfinished(QuotaError):
    """A command has ended part of the way.

    Args:
        cause: What ended it.
        done: What was done before, for machines.
        so_far: The same for people, and how to go on.
    """

    def __init__(self, cause: QuotaError, done: Mapping[str, Any], so_far: str) -> None:
        self.cause = cause
        self.done = done
        self.so_far = so_far
        super().__init__(f"{cause}\n{so_far}")


def described(error: QuotaError) -> dict[str, Any]:
    """Return an error for machines."""
    if isinstance(error, Unfinished):
        return described(error.cause) | dict(error.done)
    told: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, BadInput):
        told |= {"thing": error.thing, "field": error.field, "reason": error.reason}
    if isinstance(error, PlanStale):
        told |= {"differences": error.differences}
    return told


def exit_code(error: QuotaError) -> int:
    """Return with which code a command ends by an error.

    What can be used at no time is wrong usage; what the log, a disk or a bucket says no to by now has failed, and so
    has what is read from a file.
    """
    is_misuse = isinstance(error, (IdentityRefused, NumberRefused, SettingsRefused, TimeRefused))
    return USAGE if is_misuse else FAILED

"""Why something is refused, as a value. The services turn it into an error of `quota.errors`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class RefusalKind(Enum):
    """Which rule was broken; one error class each."""

    NUMBER = "number"
    IDENTITY = "identity"
    STATE = "state"
    TIME = "time"
    PATH = "path"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One broken rule.

    Attributes:
        kind: Which family of rules it belongs to.
        field: The field at fault, without the leading `data.`.
        value: The value at fault.
        reason: Why it is refused, and what would be accepted.
    """

    kind: RefusalKind
    field: str
    value: object
    reason: str

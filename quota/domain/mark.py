"""What a store's root is marked with: which store it is, and which sweep has last taken anything out of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"(?P<store_id>\S+) (?P<generation>[1-9][0-9]{0,18}) (?P<hash>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark, as a log knows it.

    Attributes:
        store_id: The store.
        generation: Position in the stream `_deployment` of the event that began the last sweep which moved or deleted
            anything there; 0 where none has.
        hash: The chain's hash up to that event, in hexadecimal digits; empty where there is none. A copy of the log
            that went another way has another one at that position.
    """

    store_id: str
    generation: int = 0
    hash: str = ""

    @property
    def text(self) -> str:
        """How it is written: one line of ASCII."""
        return f"{self.store_id} {self.generation} {self.hash}" if self.generation else self.store_id


def parse_mark(text: str) -> Mark:
    """Read a mark; whatever has no such form is some other store's id."""
    found = _FORM.fullmatch(text)
    if found is None:
        return Mark(text)
    return Mark(found["store_id"], int(found["generation"]), found["hash"])

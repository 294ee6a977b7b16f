"""Ends of chains, to be kept elsewhere, and read again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from quota.domain.identifiers import storage_problem

_DIGEST = re.compile("[0-9a-f]{64}")
_LAST_POSITION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a stream's chain. Kept elsewhere, it proves that the stream was not rewritten.

    Attributes:
        experiment_id: The stream.
        position: Position of its last event.
        hash: That event's hash, in hexadecimal.
    """

    experiment_id: str
    position: int
    hash: str

    @property
    def line(self) -> str:
        """The head as a line of text, which `parse_heads` reads."""
        return f"{self.hash}  {self.position}  {self.experiment_id}"


def parse_heads(text: str) -> list[Head]:
    """Read heads that were kept: as lines, or as a JSON array.

    Raises:
        ValueError: the text holds something else; the message says where.
    """
    if text.lstrip().startswith("["):
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError) as error:
            message = f"it is no JSON: {error}"
            raise ValueError(message) from error
        return [_head_from(entry, f"entry {number}") for number, entry in enumerate(entries, start=1)]
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        digest, _, rest = line.partition("  ")
        position, _, stream = rest.partition("  ")
        entry = {"experiment_id": stream, "position": _number(position), "hash": digest}
        found.append(_head_from(entry, f"line {number}"))
    return found


def _head_from(entry: object, where: str) -> Head:
    fields = entry if isinstance(entry, dict) else {}
    stream, position, digest = fields.get("experiment_id"), fields.get("position"), fields.get("hash")
    if not isinstance(stream, str) or not stream or storage_problem(stream) is not None:
        problem = "it names no stream"
    elif isinstance(position, bool) or not isinstance(position, int) or not 0 < position <= _LAST_POSITION:
        problem = "it has no position, a number from 1"
    elif not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        problem = "it has no hash, 64 hexadecimal digits"
    else:
        return Head(stream, position, digest)
    message = f"{where}: {problem}"
    raise ValueError(message)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(_LAST_POSITION)) else None

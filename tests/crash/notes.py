"""What processes leave to those that come after them, in files beside the database.

Each line is with the system before the call that writes it returns, so a process that is killed loses none of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Promise:
    """A checkpoint that a resumed trial was told to load.

    Attributes:
        trial_id: Whose resume it was.
        uri: Where it lies.
        number: The number of its content, as the trial read it then.
        position: Where the resume stands in the log.
        is_over: Whether the trial has said since that it will pause or end.
    """

    trial_id: str
    uri: str
    number: int
    position: int
    is_over: bool


@dataclass(frozen=True)
class Notes:
    """Notes in a folder."""

    folder: Path

    def acknowledge(self, uri: str, number: int) -> None:
        """Note that a save is known to be recorded."""
        self._write("places", {"saved": uri, "number": number})

    def lose(self, uri: str, number: int) -> None:
        """Note that what lies at a place is about to be lost by hand, of which the log need not know yet."""
        self._write("places", {"lost": uri, "number": number})

    def promise(self, trial_id: str, uri: str, number: int, position: int) -> None:
        """Note what a trial was told to load."""
        self._write("promises", {"trial_id": trial_id, "uri": uri, "number": number, "position": position})

    def end_promise(self, trial_id: str) -> None:
        """Note that a trial is about to pause or end: from here on nothing is kept for it."""
        self._write("promises", {"over": trial_id})

    def violation(self, said: str) -> None:
        """Note what must never be."""
        self._write("violations", said)

    @property
    def acknowledged(self) -> set[int]:
        """Numbers of the checkpoints whose saves are known to be recorded, and that nobody has lost by hand."""
        places = self._read("places")
        numbers = {kind: {note["number"] for note in places if kind in note} for kind in ("saved", "lost")}
        return numbers["saved"] - numbers["lost"]

    @property
    def lost(self) -> set[str]:
        """Places where, as far as anybody knows, nothing was written since they were lost by hand."""
        last = {note.get("saved") or note["lost"]: "lost" in note for note in self._read("places")}
        return {uri for uri, is_lost in last.items() if is_lost}

    @property
    def promises(self) -> list[Promise]:
        """All that was ever promised, oldest first; what is over included."""
        found: list[dict[str, Any]] = []
        for note in self._read("promises"):
            if "over" not in note:
                found.append(note | {"is_over": False})
                continue
            for promise in found:
                promise["is_over"] = promise["is_over"] or promise["trial_id"] == note["over"]
        return [Promise(**promise) for promise in found]

    @property
    def violations(self) -> list[str]:
        """What must never be, and was seen."""
        return self._read("violations")

    def _write(self, name: str, note: object) -> None:
        with (self.folder / name).open("a") as file:
            file.write(f"{json.dumps(note)}\n")

    def _read(self, name: str) -> list[Any]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

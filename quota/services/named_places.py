"""Names that the log has of places, by where they really lead."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from quota.domain.locations import Location


class Name(NamedTuple):
    """One name that the log has of a place.

    Attributes:
        experiment_id: Whose checkpoint it names.
        trial_id: Whose checkpoint it names.
        uri: The name.
    """

    experiment_id: str
    trial_id: str
    uri: str


class NamedPlaces:
    """The places that names of one scheme lead to, in order."""

    def __init__(self) -> None:
        self._names: dict[str, list[Name]] = {}
        self._keys: list[str] = []
        self._is_sorted = True

    def add(self, place: Location, name: Name) -> None:
        """Add a name of a place."""
        if place.key not in self._names:
            self._names[place.key] = []
            self._keys.append(place.key)
            self._is_sorted = False
        if name not in self._names[place.key]:
            self._names[place.key].append(name)

    def overlapping(self, place: Location, *, but_none_around: Location) -> Iterator[Name]:
        """Find what lies at, around or within `place`, leaving out what `but_none_around` lies in."""
        if not self._is_sorted:
            self._keys.sort()
            self._is_sorted = True
        left_out = {*but_none_around.ancestors(), but_none_around.key}
        for key in (*place.ancestors(), place.key):
            if key not in left_out:
                yield from self._names.get(key, ())
        for number in range(bisect_left(self._keys, place.key), len(self._keys)):
            key = self._keys[number]
            if not key.startswith(place.key):
                return
            if key != place.key:
                yield from self._names[key]

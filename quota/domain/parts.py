"""Cutting work into parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield `size` items at a time, in order; the last part may be smaller."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

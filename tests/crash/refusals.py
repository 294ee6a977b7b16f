"""Stores that refuse now and then."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from quota.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

REFUSABLE = frozenset({"manifest", "trash", "restore", "require_purgeable", "purge", "trashed"})


class Refusals:
    """Makes calls of stores fail at random, within the blocks in which that is possible.

    Args:
        share: Of how many calls.
        random: Which of them.
    """

    def __init__(self, share: float, random: Random) -> None:
        self._share = share
        self._random = random
        self._are_possible = False

    @contextmanager
    def possible(self) -> Iterator[None]:
        """Let calls fail for a block."""
        self._are_possible = True
        try:
            yield
        finally:
            self._are_possible = False

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Let a call fail: it does nothing then, or all of it without being able to say so."""
        if name not in REFUSABLE:
            return call

        def wrapper(*args: Any, **keywords: Any) -> Any:  # noqa: ANN401 - those of the call
            if not self._are_possible or self._random.random() >= self._share:
                return call(*args, **keywords)
            if self._random.random() < 0.5:
                call(*args, **keywords)
            raise StoreError(f"{name} of the store: it refuses now and then")

        return wrapper

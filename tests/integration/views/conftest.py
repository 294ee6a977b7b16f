"""Fixtures of the views' tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from quota.testing.memory_store import MemoryStore
from support import HandClock, create_schema, services_over

if TYPE_CHECKING:
    from quota.bootstrap import Services


@pytest.fixture
def services(database_url: str) -> Iterator[Services]:
    create_schema(database_url)
    with services_over(database_url, HandClock(), MemoryStore) as services:
        yield services

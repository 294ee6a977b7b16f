"""Fakes and contract suites for whoever writes an adapter or tests against one."""

from __future__ import annotations

from quota.testing.memory_store import MemoryStore

__all__ = ["MemoryStore"]

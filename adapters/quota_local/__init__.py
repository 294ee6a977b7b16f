"""Checkpoints on a local disk: the adapter for `file` URIs."""

from __future__ import annotations

from quota_local.store import LocalStore, open_store

__all__ = ["LocalStore", "open_store"]

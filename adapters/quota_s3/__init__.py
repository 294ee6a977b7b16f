"""Checkpoints in an object store: the adapter for `s3` URIs."""

from __future__ import annotations

from quota_s3.store import S3Store, open_store

__all__ = ["S3Store", "open_store"]

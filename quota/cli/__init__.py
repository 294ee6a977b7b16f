"""The command `ckpt-quota`."""

from __future__ import annotations

from quota.cli.app import main

__all__ = ["main"]

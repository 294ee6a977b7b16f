"""With which code a command ends where it does not end with 0, so that cron, or whoever calls it, can alarm on it."""

from __future__ import annotations

FAILED, USAGE, EXCEEDED = 1, 2, 3
"""Something failed; wrong usage or settings; a limit is still exceeded."""

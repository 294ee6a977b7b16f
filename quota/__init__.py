"""Keeps the checkpoints of hyperparameter tuning within a storage quota, and records why each one went.

`quota.connect(url)` opens a database for recording; everything else is the command `ckpt-quota`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quota.client import ExperimentHandle, Quota, connect

__all__ = ["ExperimentHandle", "Quota", "connect"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module defines
    """Load the API when it is first used: the command line answers `--help` without it."""
    if name in __all__:
        from quota import client  # noqa: PLC0415

        return getattr(client, name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)

"""Looking whether a checkpoint is where the log says it is."""

from __future__ import annotations

from quota.domain.manifest import Manifest
from quota.errors import CheckpointGone
from quota.ports import CheckpointReader


def looked_at(store: CheckpointReader, uri: str, size_bytes: int) -> Manifest:
    """Return what a checkpoint consists of.

    Args:
        store: Where it lies.
        uri: Its place.
        size_bytes: Its size, as the log has it.

    Raises:
        CheckpointGone: there is nothing at its place, or nothing but directories: what cleans disks often leaves those.
        PathRefused: there is something that is no checkpoint.
        StoreError: the store cannot be read.
    """
    manifest = store.manifest(uri)
    if size_bytes and not manifest.entries:
        raise CheckpointGone(f"checkpoint {uri}: its files are gone, and only directories are left")
    return manifest

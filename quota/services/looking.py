"""Looking whether a checkpoint is where the log says it is."""

from __future__ import annotations

from quota.domain.manifest import Manifest
from quota.errors import CheckpointGone, PathRefused, StoreError
from quota.ports import CheckpointReader
from quota.services.stores import Stores


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


class Successors:
    """Looks whether what has superseded checkpoints is where the log says it is, at each once until told to forget.

    Args:
        stores: Where they lie.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._gone: dict[str, bool] = {}

    def forget(self) -> None:
        """Look at all of them again."""
        self._gone.clear()

    def is_gone(self, uri: str, size_bytes: int) -> bool:
        """Tell whether a checkpoint is gone from its place, or a part of it; what cannot be seen is as the log says.

        A trial may have written to a place while a sweep emptied it, and reported as whole what is there in part.

        Args:
            uri: Its place.
            size_bytes: Its size, as the log has it.
        """
        if uri not in self._gone:
            self._gone[uri] = self._looks_gone(uri, size_bytes)
        return self._gone[uri]

    def _looks_gone(self, uri: str, size_bytes: int) -> bool:
        if self._stores.root_of(uri) is None:
            return False
        try:
            present = looked_at(self._stores.holding(uri), uri, size_bytes)
        except CheckpointGone:
            return True
        except (StoreError, PathRefused):
            return False
        return present.size_bytes < size_bytes

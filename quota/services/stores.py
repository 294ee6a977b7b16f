"""Finding the store that a checkpoint lies in."""

from __future__ import annotations

from collections.abc import Callable

from quota.domain.deployment import DeploymentState
from quota.errors import StoreError
from quota.ports import CheckpointStore

OpenStore = Callable[[str], CheckpointStore]
"""Opens a store by the URI of its root."""


class Stores:
    """The stores in which deletion is allowed, opened when first needed.

    Args:
        deployment: Says which they are.
        open_store: Opens one.
    """

    def __init__(self, deployment: DeploymentState, open_store: OpenStore) -> None:
        self._deployment = deployment
        self._open_store = open_store
        self._opened: dict[str, CheckpointStore] = {}

    def manages(self, uri: str) -> bool:
        """Tell whether a checkpoint lies in a store."""
        return self._deployment.store_for(uri) is not None

    def holding(self, uri: str) -> CheckpointStore:
        """Return the store that a checkpoint lies in.

        Raises:
            StoreError: there is none, or it cannot be opened.
        """
        store = self._deployment.store_for(uri)
        if store is None:
            raise StoreError(
                f"checkpoint {uri}: no store holds it; allow deletion there with: ckpt-quota store add ROOT"
            )
        if store.uri not in self._opened:
            self._opened[store.uri] = self._open_store(store.uri)
        return self._opened[store.uri]

"""Finding the store that a checkpoint lies in, and making sure that it is the one that is meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from quota.domain.deployment import DeploymentState, Store
from quota.errors import CheckpointChanged, StoreError
from quota.ports import CheckpointStore

OpenStore = Callable[[str], CheckpointStore]
"""Opens a store by the URI of its root."""

_REFUSALS_IN_A_ROW = 3


class Stores:
    """The stores that operators have named, opened when first needed.

    Args:
        deployment: Says which they are, and in which of them deletion is allowed.
        open_store: Opens one.

    Attributes:
        suspended: Why stores are asked for nothing more, by root: they could not be opened, or refused one thing after
            another.
    """

    def __init__(self, deployment: DeploymentState, open_store: OpenStore) -> None:
        self._deployment = deployment
        self._open_store = open_store
        self._opened: dict[tuple[str, str], CheckpointStore] = {}
        self._claims: dict[str, frozenset[str]] = {}
        self._refusals: Counter[str] = Counter()
        self.suspended: dict[str, str] = {}

    def look_at(self, deployment: DeploymentState) -> None:
        """Go by what operators have said since."""
        self._deployment = deployment

    def root_of(self, uri: str) -> str | None:
        """Return the root of the store that a checkpoint may be evicted from; None where there is none."""
        store = self._deployment.store_for(uri)
        return None if store is None else store.uri

    def roots(self) -> list[str]:
        """Return the roots below which deletion is allowed, sorted."""
        return sorted(self._deployment.stores)

    def allows(self, root: str) -> bool:
        """Tell whether deletion is allowed below a root."""
        return root in self._deployment.stores

    def note_answer(self, root: str) -> None:
        """Learn that a store has done what it was asked for."""
        self._refusals[root] = 0

    def note_refusal(self, root: str, error: Exception) -> None:
        """Learn that a store has refused; after a few times in a row it is the store that is out of order."""
        if isinstance(error, CheckpointChanged) or not isinstance(error, StoreError):
            # That is the checkpoint's affair.
            return
        self._refusals[root] += 1
        if self._refusals[root] == _REFUSALS_IN_A_ROW:
            self.suspended[root] = (
                f"store {root}: it refused {_REFUSALS_IN_A_ROW} times in a row, and is left alone for the rest of this "
                f"run; the last time it said: {error}"
            )

    def holding(self, uri: str) -> CheckpointStore:
        """Return the store that a checkpoint may be evicted from.

        Raises:
            StoreError: there is none, or it cannot be opened.
            PathRefused: there is nothing at its root.
        """
        store = self._deployment.store_for(uri)
        if store is None:
            raise StoreError(
                f"checkpoint {uri}: no store holds it; allow deletion there with: ckpt-quota store add ROOT"
            )
        return self._open(store)

    def at(self, root: str) -> CheckpointStore:
        """Return the store with this root. Where it has been removed, only what undoes an eviction may be asked of it.

        Raises:
            StoreError: there never was one, or it cannot be opened.
            PathRefused: there is nothing at its root.
        """
        store = self._deployment.known_stores.get(root)
        if store is None:
            raise StoreError(f"store {root}: there never was one; the projections may be damaged: ckpt-quota rebuild")
        return self._open(store)

    def claims_at(self, root: str) -> frozenset[str]:
        """Return the claims that a store's trash held anything of when this was first asked.

        Raises:
            StoreError: the store cannot be reached or read.
            PathRefused: there is nothing at its root.
        """
        if root not in self._claims:
            self._claims[root] = self.at(root).claims()
        return self._claims[root]

    def _open(self, store: Store) -> CheckpointStore:
        key = store.uri, store.store_id
        if key not in self._opened:
            self._opened[key] = self._open_store(store.uri)
        # Each time: a disk can be replaced by another one in the middle of a sweep.
        require_mark(self._opened[key], store)
        return self._opened[key]


def require_mark(opened: CheckpointStore, store: Store) -> None:
    """Check that what lies at a store's root is what the operator meant.

    Raises:
        StoreError: it has no mark or another one: then nothing of it is known to be missing, and nothing may go.
    """
    own = opened.own_mark()
    if own == store.store_id:
        return
    found = "has no mark" if own is None else f"is marked as store {own}"
    raise StoreError(
        f"store {store.uri}: what lies there {found}, and store {store.store_id} is meant; is its disk mounted? "
        f"If this place is meant from now on, say so with: ckpt-quota store add {store.uri}"
    )

"""Finding the store that a checkpoint lies in, and making sure that it is the one that is meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from quota.domain.deployment import DeploymentState, Store
from quota.domain.mark import Mark, parse_mark
from quota.domain.space import Space
from quota.errors import CheckpointChanged, StoreError
from quota.ports import CheckpointStore, DistantStore
from quota.services.lineage import Lineage

OpenStore = Callable[[str], CheckpointStore]
"""Opens a store by the URI of its root."""

_REFUSALS_IN_A_ROW = 3


class Stores:
    """The stores that operators have named, opened when first needed.

    Args:
        deployment: Says which they are, and in which of them deletion is allowed.
        open_store: Opens one.
        lineage: Says whether the log knows what was last done in a store; None where nothing is taken out of any.

    Attributes:
        suspended: Why stores are asked for nothing more, by root: they could not be opened, or refused one thing after
            another.
    """

    def __init__(self, deployment: DeploymentState, open_store: OpenStore, lineage: Lineage | None = None) -> None:
        self._deployment = deployment
        self._open_store = open_store
        self._lineage = lineage
        self._generation: tuple[int, str] | None = None
        self._seen: dict[str, Mark] = {}
        self._opened: dict[tuple[str, str], CheckpointStore] = {}
        self._claims: dict[str, frozenset[str]] = {}
        self._unsettled: dict[str, frozenset[str]] = {}
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

    def space_at(self, root: str) -> Space | None:
        """Return how full a store's file system is; None where there is no end.

        Raises:
            StoreError: as `at`, or the store cannot be reached or read.
            PathRefused: there is nothing at its root.
        """
        return self.at(root).space()

    def begin(self, position: int, chain_hash: bytes) -> None:
        """Learn which event, committed by now, has begun the sweep that takes things out of stores from here on."""
        self._generation = position, chain_hash.hex()

    def taken_from(self, root: str) -> CheckpointStore:
        """Return the store with this root, to move something of it to its trash or to delete something there.

        Its mark says so beforehand. The log has said so before: a process that is killed in between leaves a mark
        that is older than the log, and never one that is ahead of it.

        Raises:
            StoreError: as `at`, or it cannot be marked.
            PathRefused: there is nothing at its root.
        """
        opened = self.at(root)
        seen = self._seen[root]
        if self._generation is not None and seen.generation < self._generation[0]:
            mark = Mark(seen.store_id, *self._generation)
            opened.mark(mark.text)
            self._seen[root] = mark
        return opened

    def claims_at(self, root: str) -> frozenset[str]:
        """Return the claims that a store's trash held anything of when this was first asked.

        Raises:
            StoreError: the store cannot be reached or read.
            PathRefused: there is nothing at its root.
        """
        if root not in self._claims:
            self._claims[root] = self.at(root).claims()
        return self._claims[root]

    def unsettled_at(self, root: str) -> frozenset[str]:
        """Return the claims whose restore may have been cut off when this was first asked.

        Raises:
            StoreError: the store cannot be reached or read.
            PathRefused: there is nothing at its root.
        """
        if root not in self._unsettled:
            store = self.at(root)
            self._unsettled[root] = store.unsettled() if isinstance(store, DistantStore) else frozenset()
        return self._unsettled[root]

    def _open(self, store: Store) -> CheckpointStore:
        key = store.uri, store.store_id
        if key not in self._opened:
            self._opened[key] = self._open_store(store.uri)
        # Each time: a disk can be replaced by another one in the middle of a sweep.
        mark = require_mark(self._opened[key], store)
        self._require_known(store, mark)
        self._seen[store.uri] = mark
        return self._opened[key]

    def _require_known(self, store: Store, mark: Mark) -> None:
        if self._lineage is None:
            return
        try:
            self._lineage.require(store, mark)
        except StoreError as error:
            self.suspended[store.uri] = str(error)
            raise


def require_mark(opened: CheckpointStore, store: Store) -> Mark:
    """Check that what lies at a store's root is what the operator meant.

    Returns:
        Its mark.

    Raises:
        StoreError: it has no mark or another one: then nothing of it is known to be missing, and nothing may go.
    """
    text = opened.own_mark()
    own = None if text is None else parse_mark(text)
    if own is not None and own.store_id == store.store_id:
        return own
    found = "has no mark" if own is None else f"is marked as store {own.store_id}"
    raise StoreError(
        f"store {store.uri}: what lies there {found}, and store {store.store_id} is meant; is its disk mounted? "
        f"If this place is meant from now on, say so with: ckpt-quota store add {store.uri}"
    )

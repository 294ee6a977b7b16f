"""Finding out whether a checkpoint that is to go is linked with others of its trial, which stay."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from quota.domain.locations import parse_location
from quota.errors import CheckpointGone, PathRefused, StoreError
from quota.ports import CheckpointStore, LinkingStore
from quota.services.stores import Stores

logger = logging.getLogger(__name__)


def linked_with(uri: str, others: Iterable[str], root: str, stores: Stores) -> str | None:
    """Return which of `others` has a symbolic link to, into or around a checkpoint, or is reached by its own; or None.

    Both stay then: what links into another one is worth nothing without it, and once it lay in the trash nobody would
    see that the other one is needed.

    A link to the store's root, or to a directory around it, leads to everything and says nothing. What lies in no
    store, or in one without links, has none; what cannot be looked at may have some.

    Args:
        uri: The checkpoint.
        others: Those of its trial that lie at their places.
        root: Its store's root.
        stores: Where they lie.
    """
    stored = [other for other in others if other != uri and stores.root_of(other) is not None]
    if not stored:
        return None
    looked_at = uri
    try:
        store = stores.holding(uri)
        own, place, around = _links(store, uri), _key(store.place(uri)), _key(store.place(root))
        for looked_at in stored:
            other = stores.holding(looked_at)
            theirs = _links(other, looked_at)
            if _is_reached(place, theirs, around) or (own and _is_reached(_key(other.place(looked_at)), own, around)):
                return looked_at
    except (StoreError, PathRefused) as error:
        # The fault need not be this one's, nor its store's.
        logger.info("checkpoint %s is left, since the links of %s cannot be told: %s", uri, looked_at, error)
        return looked_at
    return None


def _links(store: CheckpointStore, uri: str) -> Sequence[str]:
    """Return the keys of the places that the links of a checkpoint lead to."""
    if not isinstance(store, LinkingStore):
        return ()
    try:
        return [f"{link.removesuffix('/')}/" for link in store.links(uri)]
    except CheckpointGone:
        return ()


def _is_reached(place: str, links: Sequence[str], around: str) -> bool:
    return any((key.startswith(place) or place.startswith(key)) and not around.startswith(key) for key in links)


def _key(uri: str) -> str:
    return parse_location(uri).key

"""Finding out whether checkpoints that stay link into one that is to go, so that they would be lost along with it."""

from __future__ import annotations

from collections.abc import Iterable

from quota.domain.locations import parse_location
from quota.errors import CheckpointGone
from quota.ports import LinkingStore
from quota.services.stores import Stores


def linking_into(uri: str, others: Iterable[str], root: str, stores: Stores) -> str | None:
    """Return which of `others` has a symbolic link that leads to, into or around the checkpoint at `uri`, or None.

    A link to the store's root, or to a directory around it, leads to everything and says nothing. What lies in no
    store, or in one without links, has none.

    Args:
        uri: The checkpoint.
        others: Those of its trial that lie at their places.
        root: Its store's root.
        stores: Where they lie.

    Raises:
        PathRefused: one of them is nothing that its store may look at.
        StoreError: one of them cannot be looked at.
    """
    for other in others:
        if other == uri or stores.root_of(other) is None:
            continue
        store = stores.holding(other)
        if isinstance(store, LinkingStore) and _reaches(store, other, uri, root):
            return other
    return None


def _reaches(store: LinkingStore, other: str, uri: str, root: str) -> bool:
    try:
        reached = store.links(other)
    except CheckpointGone:
        return False
    if not reached:
        return False
    place, root_place = parse_location(store.place(uri)).key, parse_location(store.place(root)).key
    keys = (f"{one.removesuffix('/')}/" for one in reached)
    return any((key.startswith(place) or place.startswith(key)) and not root_place.startswith(key) for key in keys)

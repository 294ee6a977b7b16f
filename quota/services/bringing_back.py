"""Moving what a decision has evicted back to its checkpoint's place: for a resume, an operator or a sweep alike."""

from __future__ import annotations

from quota.domain.experiment import Decision
from quota.errors import CheckpointGone
from quota.ports import CheckpointReader
from quota.services.stores import Stores


def is_brought_back(decision: Decision, stores: Stores) -> bool:
    """Move a decision's checkpoint back from the trash, or find that it lies at its place already.

    Returns:
        False where it is neither in the trash nor at its place.

    Raises:
        StoreError: the store refused or failed; what the trash holds stays there.
        PathRefused: there is nothing at the store's root.
    """
    decided = decision.decided
    store = stores.at(decided.store_uri)
    return store.restore(decided.uri, decided.decision_id) or is_at_its_place(decision, store)


def is_at_its_place(decision: Decision, store: CheckpointReader) -> bool:
    """Tell whether a checkpoint that is not in the trash lies at its place.

    What was claimed and never moved is the trial's own, whatever the trial has written to it since. What was trashed
    may have been moved back by somebody who was killed before the record of it.

    Raises:
        StoreError: the store cannot be read.
    """
    try:
        present = store.manifest(decision.decided.uri)
    except CheckpointGone:
        return False
    return decision.outcome == "claimed" or present.entries == decision.decided.manifest.entries

"""What planned checkpoints consist of: looked up without any lock, before anything is claimed."""

from __future__ import annotations

from dataclasses import dataclass, field

from quota.domain.manifest import Manifest
from quota.domain.plan import Plan
from quota.domain.policies import Candidate
from quota.errors import CheckpointGone, PathRefused, StoreError
from quota.eventlog.leases import Lease
from quota.services.stores import Stores

_UNKNOWN = Manifest()


@dataclass(frozen=True, slots=True)
class Listed:
    """A candidate that was looked at.

    Attributes:
        candidate: Which.
        place: Its place in the plan, from 1.
        manifest: What it consists of; empty where its store did not tell.
        error: What the store said then; None where it told.
    """

    candidate: Candidate
    place: int
    manifest: Manifest = _UNKNOWN
    error: str | None = None

    @property
    def size_bytes(self) -> int:
        """Its size as listed, or else as its trial said."""
        return self.manifest.size_bytes if self.error is None else self.candidate.size_bytes


@dataclass(slots=True)
class Listing:
    """What became of a plan's candidates when they were looked at.

    Attributes:
        found: Those that can be claimed.
        missing: Those that are not where the log says they are.
        refused: Those that the store would not list.
        is_complete: Whether all of the plan's were found.
    """

    found: list[Listed] = field(default_factory=list)
    missing: list[Candidate] = field(default_factory=list)
    refused: list[Listed] = field(default_factory=list)
    is_complete: bool = False


class Lister:
    """Looks at checkpoints, and remembers for one sweep what is not to be asked for again.

    Args:
        stores: Where they lie.
        lease: Is kept while that takes its time.

    Attributes:
        failures: What stores said that could not be opened, by root.
    """

    def __init__(self, stores: Stores, lease: Lease) -> None:
        self._stores = stores
        self._lease = lease
        self._in_use: set[str] = set()
        self.failures: dict[str, str] = {}

    def may_evict(self, uri: str) -> bool:
        """Tell whether a checkpoint lies in a store that can be opened, and nobody writes to it."""
        root = self._stores.root_of(uri)
        return root is not None and root not in self.failures and uri not in self._in_use

    def list(self, plan: Plan) -> Listing:
        """Look at what a plan would evict."""
        listing = Listing()
        for place, candidate in enumerate(plan.evictions, start=1):
            if self.may_evict(candidate.uri):
                self._lease.keep()
                self._look_at(candidate, place, listing)
        listing.is_complete = len(listing.found) == len(plan.evictions)
        return listing

    def _look_at(self, candidate: Candidate, place: int, listing: Listing) -> None:
        uri = candidate.uri
        try:
            store = self._stores.holding(uri)
        except (StoreError, PathRefused) as error:
            self.failures[self._stores.root_of(uri) or uri] = str(error)
            return
        try:
            manifest = self._lease.keeping(lambda: store.manifest(uri))
        except CheckpointGone:
            listing.missing.append(candidate)
        except (StoreError, PathRefused) as error:
            listing.refused.append(Listed(candidate, place, error=str(error)))
        else:
            if candidate.is_running and manifest.written_after(candidate.saved_at):
                # Trials that keep a few checkpoints write to the places of the oldest in turn.
                self._in_use.add(uri)
            else:
                listing.found.append(Listed(candidate, place, manifest))

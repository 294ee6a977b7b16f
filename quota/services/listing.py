"""What planned checkpoints consist of: looked up without any lock, before anything is claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from quota.domain.experiment import Checkpoint
from quota.domain.held_back import Obstacle
from quota.domain.manifest import LARGEST_BYTES, Manifest
from quota.domain.order import successor
from quota.domain.plan import Plan
from quota.domain.policies import Candidate
from quota.errors import CheckpointGone, PathRefused, StoreError
from quota.eventlog.leases import Lease
from quota.ports import CheckpointReader
from quota.services.aliases import Aliases
from quota.services.links import linked_with
from quota.services.looking import Successors, looked_at
from quota.services.named_places import Name
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
        aliases: Says what else may lie at the same place.
        should_stop: Whether to look at no more of them.
        left_alone: Is told why a paused trial's checkpoint is left where it is.
        clock_tolerance: How much later than it was saved a checkpoint may seem written and still be evicted.
    """

    def __init__(
        self,
        stores: Stores,
        lease: Lease,
        aliases: Aliases,
        should_stop: Callable[[], bool],
        left_alone: list[str],
        clock_tolerance: timedelta,
    ) -> None:
        self._stores = stores
        self._lease = lease
        self._aliases = aliases
        self._should_stop = should_stop
        self._left_alone = left_alone
        self._clock_tolerance = clock_tolerance
        self._in_use: set[str] = set()
        self._linked: set[str] = set()
        self._found: dict[tuple[str, int], Manifest] = {}
        self._successors = Successors(stores)

    def obstacle(self, uri: str) -> Obstacle | None:
        """Say what keeps a checkpoint from being evicted, as far as is known by now, or None."""
        root = self._stores.root_of(uri)
        if root is None:
            return "out_of_reach"
        if root in self._stores.suspended:
            return "out_of_order"
        if uri in self._in_use:
            return "in_use"
        return "linked" if uri in self._linked else None

    def leave_alone(self, uri: str) -> None:
        """Look at a checkpoint no more in this sweep."""
        self._in_use.add(uri)

    def list(self, plan: Plan) -> Listing:
        """Look at what a plan would evict."""
        listing = Listing()
        if not plan.evictions:
            return listing
        self._aliases.refresh()
        lying = self._aliases.lying(plan)
        self._successors.forget()
        for place, candidate in enumerate(plan.evictions, start=1):
            if self._should_stop():
                break
            if self.obstacle(candidate.uri) is None:
                self._lease.keep()
                own = lying.get(candidate.trial_id, [])
                self._look_at(plan.experiment_id, candidate, place, listing, own)
        listing.is_complete = len(listing.found) == len(plan.evictions)
        return listing

    def _look_at(
        self, experiment_id: str, candidate: Candidate, place: int, listing: Listing, own: Sequence[Checkpoint]
    ) -> None:
        uri, newest = candidate.uri, own[-1].uri if own else candidate.uri
        root = self._stores.root_of(uri) or uri
        try:
            store = self._stores.holding(uri)
        except (StoreError, PathRefused) as error:
            self._stores.suspended[root] = str(error)
            return
        try:
            manifest = self._manifest(candidate, store)
            name = Name(experiment_id, candidate.trial_id, uri)
            self._lease.keeping(lambda: self._aliases.require_none(name, newest, root, store))
            self._lease.keeping(lambda: self._require_successor(candidate, own))
            linked = self._lease.keeping(lambda: linked_with(uri, [one.uri for one in own], root, self._stores))
        except CheckpointGone:
            listing.missing.append(candidate)
        except PathRefused as error:
            listing.refused.append(Listed(candidate, place, error=str(error)))
        except StoreError as error:
            listing.refused.append(Listed(candidate, place, error=str(error)))
            self._stores.note_refusal(root, error)
        else:
            self._stores.note_answer(root)
            if self._is_in_use(candidate, manifest):
                self._in_use.add(uri)
                # A trial that runs writes to the places of its older ones in turn, and then all is as it should be.
                if candidate.reason == "paused":
                    self._left_alone.append(_why_in_use(candidate, manifest))
            elif linked is not None:
                self._linked.add(uri)
            else:
                self._found[uri, candidate.saved_position] = manifest
                listing.found.append(Listed(candidate, place, manifest))

    def _is_in_use(self, candidate: Candidate, manifest: Manifest) -> bool:
        """Tell whether somebody has written to a checkpoint's place since it was saved, as far as the log knows.

        Trials that keep a few checkpoints write to the places of the oldest in turn, and a superseded one's place may
        by now be that of its successor under another name. A trial that the log calls paused may run again: its events
        may be on their way, or the log may be an older copy of another one.
        """
        return manifest.written_after(candidate.saved_at, self._clock_tolerance)

    def _manifest(self, candidate: Candidate, store: CheckpointReader) -> Manifest:
        known = self._found.get((candidate.uri, candidate.saved_position))
        if known is not None:
            return known
        manifest = self._lease.keeping(lambda: looked_at(store, candidate.uri, candidate.size_bytes))
        require_size(candidate.uri, manifest)
        return manifest

    def _require_successor(self, candidate: Candidate, own: Sequence[Checkpoint]) -> None:
        """Check that what has superseded a checkpoint is there indeed, where that can be seen.

        Raises:
            PathRefused: it is not, so that this one may be its trial's last.
        """
        if candidate.reason != "superseded":
            return
        # Where the log knows of none by now, nothing is claimed.
        places = [place for place, one in enumerate(own) if one.uri == candidate.uri]
        later = successor(own[places[0]], own[places[0] + 1 :]) if places else None
        if later is not None and self._successors.is_gone(later.uri, later.size_bytes):
            reason = f"its trial's checkpoint {later.uri} is later, and not whole at its place: this may be the last"
            raise PathRefused("checkpoint", "uri", candidate.uri, reason)


def require_size(uri: str, manifest: Manifest) -> None:
    """Check that a checkpoint is no larger than a disk.

    Raises:
        PathRefused: its files say that they are.
    """
    if manifest.size_bytes > LARGEST_BYTES:
        reason = (
            f"its files add up to {manifest.size_bytes} bytes, and none is larger than {LARGEST_BYTES}; "
            "look for files with holes"
        )
        raise PathRefused("checkpoint", "uri", uri, reason)


def _why_in_use(candidate: Candidate, manifest: Manifest) -> str:
    return (
        f"checkpoint {candidate.uri}: it was written to at {manifest.modified_at}, by its store's clock, though trial "
        f"{candidate.trial_id} is paused and saved it at {candidate.saved_at}; either the trial runs again and its "
        "events are on their way, or this database is an older copy, or the two clocks differ: let the trial's events "
        "in, send checkpoint_saved again, or raise the setting clock_tolerance"
    )

"""What comparing the stores with the log finds, and who is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from quota.domain.locations import parse_location

Kind = Literal["missing", "turned_up", "resized", "orphan", "young_orphan", "orphan_in_trash", "not_looked_into"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that the log and a store say differently.

    Attributes:
        kind: `missing`: nothing lies where a checkpoint should. `turned_up`: one that was missing lies at its place.
            `resized`: one has another size than was known. `orphan`: what lies there belongs to no checkpoint;
            `young_orphan`: likewise, but it may be being written just now. `orphan_in_trash`: what the trash holds
            belongs to no eviction that is open. `not_looked_into`: what lies there could not be seen.
        uri: Where.
        experiment_id: Whose it is, or was; None where nobody's.
        trial_id: Whose it is, or was; None where nobody's.
        logged_bytes: Its size, as the log has it; None where it has none.
        found_bytes: Its size in the store; None where nothing lies there.
        files: How many files an orphan has.
        modified_at: When an orphan was last written or put there.
        is_recorded: Whether the log says so by now.
        note: What else there is to say.
    """

    kind: Kind
    uri: str
    experiment_id: str | None = None
    trial_id: str | None = None
    logged_bytes: int | None = None
    found_bytes: int | None = None
    files: int | None = None
    modified_at: datetime | None = None
    is_recorded: bool = False
    note: str | None = None

    @property
    def may_be_trashed(self) -> bool:
        """Whether it is an orphan that has nothing to do with any trial, as far as is known."""
        return self.kind == "orphan" and self.note is None


@dataclass(frozen=True, slots=True)
class ReconcileOrder:
    """How to reconcile.

    Attributes:
        orphans_older_than: Age of what can be an orphan: what is younger may be a checkpoint that nobody
            has reported yet.
        lease_term: For how long a process that records and says nothing is waited for by the next one.
        record: Whether to record what is missing, has turned up or has another size.
    """

    orphans_older_than: timedelta
    lease_term: timedelta
    record: bool = False


class Watcher(Protocol):
    """Is told what goes on."""

    def listed(self) -> None:
        """One more item of a store was listed."""
        ...

    def found(self, finding: Finding) -> None:
        """One more thing differs."""
        ...

    def should_stop(self) -> bool:
        """Tell whether to end early; asked at each item."""
        ...


@dataclass(slots=True)
class ReconcileReport:
    """What was looked at, and what could not be.

    Attributes:
        checkpoints: Checkpoints that were compared.
        files: Files that were listed.
        size_bytes: The sum of their sizes.
        errors: What stores said that could not be listed.
        untrusted: Why experiments were left out that cannot be trusted, by id.
        linked: Orphans, and directories that hold some, that links elsewhere in their store lead to.
    """

    checkpoints: int = 0
    files: int = 0
    size_bytes: int = 0
    errors: list[str] = field(default_factory=list)
    untrusted: dict[str, str] = field(default_factory=dict)
    linked: set[str] = field(default_factory=set)

    def is_linked(self, uri: str) -> bool:
        """Tell whether links lead to an orphan, so that something else may need it."""
        return not self.linked.isdisjoint(parse_location(uri).spellings_around())

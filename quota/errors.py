"""What can go wrong, as one family of classes.

Every message names the thing, the field, the value and what to do next. The command line prints the message
alone, so a message must make sense without a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_SHOWN_LENGTH = 120
_SHOWN_PATHS = 3
_SHOWN_DIFFERENCES = 10


def shown(value: object) -> str:
    """Return `value` as it is quoted in a message: its repr, shortened, in printable characters only."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}… ({len(text)} characters)"


def shown_paths(paths: Iterable[str]) -> str:
    """Return the first few of `paths` as they are quoted in a message, and how many there are."""
    known = sorted(set(paths))
    few = ", ".join(shown(path) for path in known[:_SHOWN_PATHS])
    return few if len(known) <= _SHOWN_PATHS else f"{few} … ({len(known)} in all)"


def _printable(text: str) -> str:
    """Return `text` so that it can be shown: names come from outside as values do."""
    return text if text.isprintable() else ascii(text)[1:-1]


class QuotaError(Exception):
    """Root of all errors that this package raises on purpose."""


class BadInput(QuotaError):
    """Something given to us is refused whole; nothing of its batch was stored.

    Attributes:
        thing: What was refused, e.g. `event 0199… (trial_paused)`.
        field: The field at fault, dotted, e.g. `data.level`; empty where the whole thing is at fault.
        value: The value at fault.
        reason: Why it is refused, and what would be accepted.
    """

    def __init__(self, thing: str, field: str, value: object, reason: str) -> None:
        self.thing = thing
        self.field = field
        self.value = value
        self.reason = reason
        where = f"{_printable(thing)}: field `{_printable(field)}`" if field else _printable(thing)
        super().__init__(f"{where} is {shown(value)}: {reason}")


class NumberRefused(BadInput):
    """A number is missing its type or its range."""


class IdentityRefused(BadInput):
    """An id, a type, a field name or the form of an event is not what it must be."""


class StateRefused(BadInput):
    """An event contradicts what the log already says."""


class TimeRefused(BadInput):
    """A time cannot be placed: it is no ISO 8601 text, or has no zone."""


class PathRefused(BadInput):
    """A checkpoint's or store's location is not one that may be deleted from."""


class SettingsRefused(BadInput):
    """A setting, a limit or a database URL cannot be used."""


class NotFound(QuotaError):
    """What was asked for is not in the log."""


class PlanStale(QuotaError):
    """A saved plan is not what a sweep would do by now. Nothing was done.

    Attributes:
        differences: What differs, one line each.
    """

    def __init__(self, thing: str, differences: Sequence[str], advice: str) -> None:
        self.differences = list(differences)
        few = [f"  {one}" for one in self.differences[:_SHOWN_DIFFERENCES]]
        if len(self.differences) > _SHOWN_DIFFERENCES:
            few.append(f"  and {len(self.differences) - _SHOWN_DIFFERENCES} more; --json names them all")
        super().__init__("\n".join([f"{thing} is stale, so nothing was done:", *few, advice]))


class DatabaseUnavailable(QuotaError):
    """The database cannot be opened, or did not answer."""


class NotPermitted(DatabaseUnavailable):
    """The database does not let this user do that."""


class SchemaMismatch(QuotaError):
    """The database's schema is not the one that this version of the software works with."""


class LogCorrupt(QuotaError):
    """The event log contradicts itself: a changed, missing or reordered row. Nothing may be deleted."""


class StreamArchived(QuotaError):
    """A stream's events lie in an archive, and not in the log any more.

    Attributes:
        experiment_id: The stream.
        uri: The archive.
    """

    def __init__(self, experiment_id: str, uri: str) -> None:
        self.experiment_id = experiment_id
        self.uri = uri
        advice = f"bring them back with: ckpt-quota archive restore {_printable(experiment_id)}"
        super().__init__(f"experiment {_printable(experiment_id)}: its events lie in the archive {uri}; {advice}")


class ArchiveRefused(QuotaError):
    """An archive cannot be written or read, or is not what it says that it is; the message names it, and the file."""


class ProjectionDiverged(QuotaError):
    """The projections are not the fold of the log. `ckpt-quota rebuild` makes them anew."""


class ClockJumped(QuotaError):
    """The host's clock cannot be right: times of retention mean nothing by it, and nothing is deleted."""


class LeaseHeld(QuotaError):
    """Another process is doing what only one may do at a time."""


class LeaseLost(QuotaError):
    """This process took too long, and another one has taken its place. Nothing more is deleted by this one."""


class StoreError(QuotaError):
    """A store could not do what it was asked; the message names the store, the path and the cause."""


class DeletionForbidden(StoreError):
    """What a store must not delete, whoever asks: object lock, legal hold, MFA delete.

    Trying again by itself does no good.
    """


class CheckpointGone(StoreError):
    """There is nothing at the checkpoint's location."""


class CheckpointChanged(StoreError):
    """What lies at the location is no longer what the manifest names. Nothing was touched."""

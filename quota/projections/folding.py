"""Folding a stream's events into a state, with errors that say what to do where the two contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from quota.domain.deployment import DeploymentState, fold_deployment
from quota.domain.events import RecordedEvent
from quota.domain.experiment import ExperimentState
from quota.domain.fold import fold_experiment
from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import LogCorrupt, ProjectionDiverged
from quota.eventlog.reading import EventSource

State = ExperimentState | DeploymentState

Progress = Callable[[int], None]
"""Is told how many more events have been read."""

_UNFIT = (LookupError, ValueError, TypeError, AttributeError)
"""What reading, folding and loading raise where the log or the rows are not what they were."""

_REPORT_EVERY = 1_000
_AUDIT_FIRST = "run `ckpt-quota audit verify` first, which names what was changed or removed"
_THEN_RESTORE = f"{_AUDIT_FIRST}, and restore the database from a backup"
_THEN_REBUILD = f"{_AUDIT_FIRST}; where every chain holds, make the rows anew: ckpt-quota rebuild"


def nothing(_: int) -> None:
    """Tell nobody."""


def fold_until(
    log: EventSource, connection: Connection, state: State, until: int, progress: Progress = nothing
) -> None:
    """Take what a stream holds after a state's position into the state.

    Args:
        log: How the stream is read.
        connection: Where.
        state: Empty, or as its rows were loaded.
        until: Position of the stream's head, or of the last event that is wanted.
        progress: Is told how it goes.

    Raises:
        LogCorrupt: an event is missing, cannot be read, or does not fit those before it.
        ProjectionDiverged: an event does not fit the rows, or these reflect more than the log holds.
    """
    if state.position == until:
        return
    if state.position > until:
        raise rows_ahead(_stream(state), state.position, until)
    stream_id, is_loaded, read = _stream(state), state.position > 0, 0
    try:
        for recorded in log.read(connection, stream_id, after=state.position, until=until):
            if recorded.position != state.position + 1:
                raise _missing(state, f"event {recorded.position} follows")
            _fold(state, recorded, is_loaded=is_loaded)
            read += 1
            if read % _REPORT_EVERY == 0:
                progress(_REPORT_EVERY)
    except _UNFIT as error:
        reason = f"it cannot be read: {error!r}"
        raise LogCorrupt(f"an event of {stream_id} after {state.position}: {reason}; {_THEN_RESTORE}") from error
    progress(read % _REPORT_EVERY)
    if state.position != until:
        raise _missing(state, f"the stream's head says {until}")


def _fold(state: State, recorded: RecordedEvent, *, is_loaded: bool) -> None:
    try:
        if isinstance(state, ExperimentState):
            fold_experiment(state, recorded)
        else:
            fold_deployment(state, recorded)
    except _UNFIT as error:
        if is_loaded:
            reason = f"event {recorded.position} does not fit the rows: {error!r}"
            raise ProjectionDiverged(f"projections of {_named(_stream(state))}: {reason}; {_THEN_REBUILD}") from error
        reason = f"it does not fit those before it: {error!r}"
        raise LogCorrupt(f"event {recorded.position} of {_stream(state)}: {reason}; {_THEN_RESTORE}") from error


@contextmanager
def rows_read(stream_id: str) -> Iterator[None]:
    """Load a state.

    Raises:
        ProjectionDiverged: the rows cannot be what they were.
    """
    try:
        yield
    except _UNFIT as error:
        raise ProjectionDiverged(
            f"projections of {_named(stream_id)}: the rows cannot be read: {error!r}; {_THEN_REBUILD}"
        ) from error


def rows_ahead(stream_id: str, position: int, until: int) -> ProjectionDiverged:
    """Return the error that says that the rows reflect more than the log holds."""
    return ProjectionDiverged(
        f"projections of {_named(stream_id)}: the rows reflect {position}, and the log ends at {until}; where events "
        f"were removed, rows made anew would forget what these said, purges among it: {_AUDIT_FIRST}, best with heads "
        "that were kept (--heads)"
    )


def _missing(state: State, known: str) -> LogCorrupt:
    return LogCorrupt(f"event {state.position + 1} of {_stream(state)}: it is missing, and {known}; {_THEN_RESTORE}")


def _stream(state: State) -> str:
    return state.experiment_id if isinstance(state, ExperimentState) else DEPLOYMENT_STREAM


def _named(stream_id: str) -> str:
    return "the deployment" if stream_id == DEPLOYMENT_STREAM else f"experiment {stream_id}"

"""Handing out what the database holds: events, decisions, or any of the auditors' views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Select, TableClause, select

from quota.domain.identifiers import DEPLOYMENT_STREAM
from quota.errors import SettingsRefused
from quota.eventlog.archived import archived_streams
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.eventlog.tables import events
from quota.projections.view_tables import VIEWS, order_of
from quota.services.export_formats import Columns, Rows
from quota.services.heads import Head
from quota.services.wire_lines import wire_lines

EVENTS = "events"
NICKNAMES: Mapping[str, str] = {"decisions": "eviction_history"}
"""By what else a view is called."""

EXPORTED = (EVENTS, *NICKNAMES, *VIEWS)
"""What can be handed out."""

_PAGE = 1_000
_OWN_COLUMNS: Columns = tuple(one for one in events.c if one.name != "global_position")
"""All but the one that the database gives, which differs from one database to the other."""

_OWN_VALUES = attrgetter(*(one.name for one in _OWN_COLUMNS))


@dataclass(frozen=True, slots=True)
class Export:
    """What is handed out, as of one moment of the database.

    Attributes:
        columns: What the rows consist of.
        rows: The rows, read page by page, once.
        lines: The same in the wire form, of events; none of a view.
        heads: Ends of the chains of the streams whose events these are; none of a view.
        archived: Where the events are of those streams that have none in the log, by id.
    """

    columns: Columns
    rows: Rows
    lines: Iterator[str]
    heads: Sequence[Head]
    archived: Mapping[str, str]


class Exporter:
    """Reads the log and the views, and never writes.

    Args:
        database: Where they are.
        log: How events are read.
    """

    def __init__(self, database: Database, log: EventLog) -> None:
        self._database = database
        self._log = log

    @contextmanager
    def exported(self, what: str, streams: Sequence[str]) -> Iterator[Export]:
        """Hand out events or a view's rows, in one order on both databases.

        Args:
            what: One of `EXPORTED`.
            streams: Only those of these streams; of all where there are none.

        Raises:
            SettingsRefused: the view's rows belong to no experiment, and some are named.
        """
        with self._database.read() as connection:
            yield export_from(self._log, connection, what, streams)


def export_from(log: EventLog, connection: Connection, what: str, streams: Sequence[str]) -> Export:
    """Hand out what a connection's snapshot has. Raises what `Exporter.exported` does."""
    if what != EVENTS:
        view = VIEWS[NICKNAMES.get(what, what)]
        query = _query(view, streams, connection.dialect.name)
        return Export(tuple(view.c), _paged(connection, query), iter(()), (), {})
    heads = [Head(name, at, digest.hex()) for name, at, digest in log.heads(connection) if at]
    wanted = [head for head in heads if not streams or head.experiment_id in streams]
    names = [head.experiment_id for head in wanted]
    rows = (_OWN_VALUES(row) for name in names for row in log.rows(connection, name))
    lines = (line for name in names for line in wire_lines(log, connection, name))
    archived = {name: uri for name, uri in archived_streams(connection).items() if name in names}
    return Export(_OWN_COLUMNS, rows, lines, wanted, archived)


def _query(view: TableClause, streams: Sequence[str], dialect: str) -> Select[Any]:
    query: Select[Any] = select(*view.c).order_by(*order_of(view, dialect))
    if not streams:
        return query
    if "experiment_id" not in view.c or DEPLOYMENT_STREAM in streams:
        reason = f"rows of {view.name} belong to no such thing; leave it out"
        raise SettingsRefused("export", "experiment", ", ".join(streams), reason)
    return query.where(view.c.experiment_id.in_(streams))


def _paged(connection: Connection, query: Select[Any]) -> Iterator[Sequence[Any]]:
    """Read by a cursor of the server's where it has any, so that what is in memory is a page."""
    with connection.execution_options(stream_results=True).execute(query) as result:
        for page in result.partitions(_PAGE):
            yield from page

"""`ckpt-quota audit`: prove that the log was not touched, and hand it out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.export import export
from quota.cli.session import DatabaseOption, JsonOption, opened, print_json, progress
from quota.cli.tables import counted

if TYPE_CHECKING:
    from quota.eventlog.verifying import Fault
    from quota.services.heads import Head
    from quota.services.recomputing import Recomputed
    from quota.services.stream_audit import StreamAudit

_MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]

app = typer.Typer(help="Verify and export the event log.", no_args_is_help=True)


@app.command()
def verify(
    heads: Annotated[
        str | None, typer.Option("--heads", metavar="FILE", help="Compare with heads that were kept elsewhere.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=_MOMENTS, metavar="TIME", help="Recompute decisions from then on (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_MOMENTS, metavar="TIME", help="Recompute decisions before that (UTC).")
    ] = None,
    chains_only: Annotated[bool, typer.Option("--chains-only", help="Recompute no decisions.")] = False,
    archives: Annotated[
        bool, typer.Option("--archives", help="Read the archives of events that are not in the log any more, too.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, max=64, help="Processes; by default what pays off.")
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that the log was not touched, and that each decision follows from the events before it.

    Each stream's hash chain is recomputed: the first changed, missing or reordered row of each is named. Then each
    decision's inputs are, from the events alone, and compared to the last bit.
    """
    from quota.cli.audit_workers import audit_here, audit_with, jobs_for
    from quota.services.stream_audit import AuditOrder

    found: list[tuple[Head, StreamAudit]] = []
    with opened(database) as (services, settings), progress(quiet=as_json) as bar:
        present = services.auditor.heads()
        kept = [] if heads is None else _kept(heads)
        named = {head.experiment_id for head in kept}
        unkept = [head for head in present if head.experiment_id not in named]
        removed = services.auditor.removed()
        headless = [
            one.head for name, one in removed.items() if name not in named | {head.experiment_id for head in present}
        ]
        expected = [*kept, *unkept, *headless]
        order = AuditOrder(
            with_decisions=not chains_only,
            since=_utc(since),
            until=_utc(until),
            removed=removed,
            with_archives=archives,
        )
        events = sum(head.position for head in expected)
        task = bar.add_task("events", total=events * (2 if order.with_decisions else 1))

        def read(more: int) -> None:
            bar.advance(task, more)

        workers = jobs_for(events, len(expected), jobs)
        if workers == 1:
            found.extend(audit_here(services, expected, order, read))
        else:
            found.extend(audit_with(workers, settings.database, settings.actor, expected, order, read))
        orphaned = services.auditor.orphans()
        shared = services.auditor.shared_ids()
    unkept_streams = None if heads is None else len(unkept)
    _tell(_Audited(found, orphaned, shared, unkept_streams, heads, archives), as_json=as_json)


@dataclass(frozen=True)
class _Audited:
    """What an audit has found.

    Attributes:
        streams: By stream.
        headless: Streams that have events and no head.
        shared_ids: Where two streams share an event's id, which no chain tells.
        unkept: How many streams are compared with no head that was kept; None where none was given.
        heads: The file that those are from.
        with_archives: Whether archives were read.
    """

    streams: list[tuple[Head, StreamAudit]]
    headless: list[str]
    shared_ids: list[Fault]
    unkept: int | None
    heads: str | None
    with_archives: bool

    def has_read(self, audit: StreamAudit) -> bool:
        """Tell whether a stream's events were read."""
        return audit.removed is None or self.with_archives

    @property
    def faults(self) -> list[dict[str, object]]:
        """Where chains do not hold, by stream."""
        faults = [one.fault for _, one in sorted(self.streams, key=lambda one: one[0].experiment_id) if one.fault]
        faults += self.shared_ids
        return [
            *({"experiment_id": one.experiment_id, "position": one.position, "reason": one.reason} for one in faults),
            *(
                {"experiment_id": stream, "position": 0, "reason": "the stream has events and no head"}
                for stream in self.headless
            ),
        ]

    @property
    def mismatched(self) -> list[Recomputed]:
        """Decisions that do not recompute."""
        found = (one for _, audit in self.streams for one in audit.mismatched)
        return sorted(found, key=lambda one: (one.experiment_id, one.position))


def _tell(audited: _Audited, *, as_json: bool) -> None:
    """Say what was found; exit with 1 where something is wrong."""
    faults, mismatched = audited.faults, audited.mismatched
    wrong = [one for one in mismatched if not one.is_rounding]
    elsewhere = {audit.removed.experiment_id: audit.removed.uri for _, audit in audited.streams if audit.removed}
    here = [head for head, audit in audited.streams if audited.has_read(audit)]
    streams, events = len(here), sum(head.position for head in here)
    decisions = sum(audit.decisions for _, audit in audited.streams)
    if as_json:
        counts = {"streams": streams, "without_kept_head": streams if audited.unkept is None else audited.unkept}
        counts |= {"events": events, "decisions": decisions}
        print_json(
            counts | {"archived": elsewhere, "faults": faults, "mismatches": [_plain(one) for one in mismatched]}
        )
    else:
        if not faults:
            typer.echo(f"{streams} streams, {events} events: every chain holds")
        _tell_of_archived(audited)
        if audited.unkept and not faults:
            newer = f"{audited.unkept} of them were compared with no head of {audited.heads}"
            typer.echo(f"{newer}: they are newer than it")
        if decisions:
            typer.echo(f"{decisions - len(mismatched)} of {counted(decisions, 'decision')} recomputed to the last bit")
        if len(mismatched) > len(wrong):
            rounded = counted(len(mismatched) - len(wrong), "decision")
            typer.echo(f"{rounded} but for the last digits, which processors and versions of NumPy round differently")
        for fault in faults:
            typer.echo(f"{fault['experiment_id']}, event {fault['position']}: {fault['reason']}", err=True)
        for one in wrong:
            differing = (
                f"{each.name} was logged as {each.logged}, and is {each.recomputed}" for each in one.mismatches
            )
            about = f"{one.experiment_id}, event {one.position}, decision {one.decision_id}"
            typer.echo(f"{about}: {'; '.join(differing)}", err=True)
    if faults or wrong:
        raise typer.Exit(FAILED)


def _tell_of_archived(audited: _Audited) -> None:
    for head, audit in audited.streams:
        removed = audit.removed
        if removed is None or audit.fault is not None:
            continue
        said = f"its head, event {removed.position}, is what _deployment says"
        if audited.with_archives:
            said += "; it was read, and its chain holds"
        elif head.position < removed.position:
            said += f"; the head that was kept, event {head.position}, is compared with --archives"
        else:
            said += "; prove it with --archives"
        typer.echo(f"{head.experiment_id}: its events lie in the archive {removed.uri}; {said}")


def _plain(one: Recomputed) -> dict[str, object]:
    inputs = [{"name": each.name, "logged": each.logged, "recomputed": each.recomputed} for each in one.mismatches]
    named = {"experiment_id": one.experiment_id, "position": one.position, "decision_id": one.decision_id}
    return named | {"is_rounding": one.is_rounding, "inputs": inputs}


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


@app.command()
def head(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Print the chains' heads. Keep them elsewhere: without that a chain proves little."""
    with opened(database) as (services, _):
        heads = services.auditor.heads()
    if as_json:
        print_json([{"experiment_id": one.experiment_id, "position": one.position, "hash": one.hash} for one in heads])
        return
    for one in heads:
        typer.echo(one.line)


app.command()(export)


def _kept(file: str) -> list[Head]:
    """Read what `audit head` printed.

    Raises:
        SettingsRefused: the file cannot be read, or holds something else.
    """
    from quota.errors import SettingsRefused
    from quota.services.heads import parse_heads

    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsRefused("heads", "file", file, f"it cannot be read: {error}") from error
    if not text.strip():
        raise SettingsRefused("heads", "file", file, "it is empty, so it would prove nothing; keep heads anew")
    try:
        return parse_heads(text)
    except ValueError as error:
        reason = f"{error}; the file holds what `ckpt-quota audit head` printed, with --json or without"
        raise SettingsRefused("heads", "file", file, reason) from error

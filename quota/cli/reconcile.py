"""`ckpt-quota reconcile`: compare the stores with the log."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.session import (
    DatabaseOption,
    JsonOption,
    LogFormatOption,
    MovesBar,
    opened,
    policy_parameters,
    print_json,
    progress,
)
from quota.cli.tables import age_text, counted, picked, print_table, size_text, sizes_text
from quota.domain.identifiers import ORPHANS_STREAM

if TYPE_CHECKING:
    from rich.progress import Progress

    from quota.services.findings import Finding, ReconcileReport
    from quota.services.sweep_order import SweepReport

_SHOWN = 20
_LISTED_AT_ONCE = 500
_WORDS = {
    "missing": "missing",
    "turned_up": "turned up",
    "resized": "another size",
    "orphan": "orphan",
    "young_orphan": "orphan, too young",
    "orphan_in_trash": "orphan in the trash",
    "not_looked_into": "not looked into",
}


_COLUMNS: dict[str, tuple[str, ...]] = {
    "missing": ("uri", "experiment", "trial", "logged", "note"),
    "turned_up": ("uri", "experiment", "trial", "logged", "found", "note"),
    "resized": ("uri", "experiment", "trial", "logged", "found"),
    "orphan": ("uri", "experiment", "trial", "files", "found", "age", "note"),
    "young_orphan": ("uri", "experiment", "trial", "files", "found", "age", "note"),
    "orphan_in_trash": ("uri",),
    "not_looked_into": ("uri", "experiment", "trial", "note"),
}
_ORPHANS = ("orphan", "young_orphan")
_RECORDED = ("missing", "turned_up", "resized")


class _Watcher:
    """Shows progress, and keeps the first findings of each kind; or prints them all, for machines."""

    def __init__(self, bar: Progress, *, as_json: bool, as_lines: bool) -> None:
        self._bar = bar
        self._task = bar.add_task("listed", total=None)
        self._as_json = as_json
        self._as_lines = as_lines
        self._listed = 0
        self.numbers: Counter[str] = Counter()
        self.recorded: Counter[str] = Counter()
        self.files: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self.first: dict[str, list[Finding]] = defaultdict(list)
        self.orphans: list[str] = []
        self.may_be_recorded = False

    def listed(self) -> None:
        """Move the bar on."""
        self._listed += 1
        if self._listed % _LISTED_AT_ONCE == 0:
            self._bar.update(self._task, completed=self._listed)

    def found(self, finding: Finding) -> None:
        """Count a finding."""
        from quota.telling import tell_of_finding

        kind = finding.kind
        self.numbers[kind] += 1
        if finding.may_be_trashed:
            self.orphans.append(finding.uri)
        if kind in _RECORDED and finding.note is None and not finding.is_recorded:
            self.may_be_recorded = True
        self.recorded[kind] += finding.is_recorded
        self.files[kind] += finding.files or 0
        self.sizes[kind] += finding.found_bytes or finding.logged_bytes or 0
        if self._as_lines:
            tell_of_finding(finding)
        if self._as_json:
            print_json({name: getattr(finding, name) for name in finding.__dataclass_fields__})
        elif self.numbers[kind] <= _SHOWN:
            self.first[kind].append(finding)

    def should_stop(self) -> bool:
        """Go on to the end."""
        return False


def reconcile(
    stores: Annotated[
        list[str] | None, typer.Option("--store", metavar="ROOT", help="Only this store; may be repeated.")
    ] = None,
    record: Annotated[
        bool,
        typer.Option("--record", help="Record in the log what is missing, has turned up, or has another size."),
    ] = False,
    orphans_older_than: Annotated[
        str | None,
        typer.Option(
            "--orphans-older-than", metavar="TIME", help="What is younger may not have been reported yet: 90s, 1h, 1d."
        ),
    ] = None,
    trash_orphans: Annotated[
        bool,
        typer.Option("--trash-orphans", help="Move orphans to the trash, where they can be restored like evictions."),
    ] = False,
    log_format: LogFormatOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what lies in the stores with what the log says. Moves nothing, unless told to.

    With --json, each finding is a line of its own, and the last line sums up. Ends with 0 whatever differs, and with 1
    where a store or an experiment could not be compared, or an orphan not be moved.
    """
    from quota.bootstrap import sweep_order
    from quota.logs import are_json
    from quota.services.findings import ReconcileOrder
    from quota.services.sweep_order import SweepReport
    from quota.telling import tell_of_reconcile, tell_of_sweep

    trashed = SweepReport()
    with opened(database, logs=True, orphans_older_than=orphans_older_than, log_format=log_format) as found:
        services, settings = found
        is_quiet = as_json or are_json()
        order = ReconcileOrder(settings.orphans_older_than, settings.lease_term, record=record)
        with progress(quiet=is_quiet) as bar:
            watcher = _Watcher(bar, as_json=as_json, as_lines=are_json())
            report = services.reconciler.reconcile(stores or [], order, watcher)
        orphans = [uri for uri in watcher.orphans if not report.is_linked(uri)]
        if trash_orphans and orphans:
            how = sweep_order(settings, policy_parameters(settings, None))
            with progress(quiet=is_quiet) as bar:
                trashed = services.sweeper.trash_orphans(
                    orphans, settings.orphans_older_than, how, MovesBar(bar, "moving orphans")
                )
        now = services.clock.now()
        if are_json():
            tell_of_reconcile(report, watcher.numbers)
            tell_of_sweep("trash_orphans", trashed, services.queries)
    if as_json:
        print_json(_summed_up(report, watcher, trashed))
    elif not are_json():
        _answer(report, watcher, now)
        _advise(watcher, orphans, record=record, trash_orphans=trash_orphans)
        _answer_trashed(trashed)
    if report.errors or report.untrusted or trashed.tally.errors or trashed.untrusted:
        raise typer.Exit(FAILED)


def _summed_up(report: ReconcileReport, watcher: _Watcher, trashed: SweepReport) -> dict[str, Any]:
    return {
        "kind": "summary",
        "checkpoints": report.checkpoints,
        "files": report.files,
        "size_bytes": report.size_bytes,
        "findings": dict(watcher.numbers),
        "recorded": dict(+watcher.recorded),
        "trashed": trashed.tally.evicted,
        "errors": [*report.errors, *trashed.tally.errors],
        "untrusted": report.untrusted | trashed.untrusted,
        "linked": sorted(report.linked),
    }


def _answer(report: ReconcileReport, watcher: _Watcher, now: datetime) -> None:
    differing = watcher.numbers.total()
    said = [counted(differing, "difference")] if differing else []
    if report.errors or report.untrusted:
        said.append("not all could be compared")
    typer.echo(
        f"{counted(report.files, 'file')} ({size_text(report.size_bytes)}) compared with "
        f"{counted(report.checkpoints, 'checkpoint')}: {', and '.join(said) or 'no difference'}"
    )
    kinds = [kind for kind in _WORDS if watcher.numbers[kind]]
    if kinds:
        print_table(
            "",
            ["difference", "places", "files", "size", "recorded"],
            [
                [
                    _WORDS[kind],
                    watcher.numbers[kind],
                    watcher.files[kind] or None,
                    size_text(watcher.sizes[kind]),
                    watcher.recorded[kind],
                ]
                for kind in kinds
            ],
            "",
        )
    for kind in kinds:
        _show(kind, [_row(finding, report, now) for finding in watcher.first[kind]])
        more = watcher.numbers[kind] - len(watcher.first[kind])
        if more:
            typer.echo(f"{more} more; --json prints them all")
    for error in report.errors:
        typer.echo(f"failed: {error}", err=True)
    for reason in report.untrusted.values():
        typer.echo(f"not compared: {reason}", err=True)


def _show(kind: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Print the findings of one kind, with those columns that say anything about them."""
    columns = [name for name in _COLUMNS[kind] if any(row[name] is not None for row in rows)]
    print_table(
        _WORDS[kind].capitalize(),
        columns,
        picked(rows, columns),
        "",
        places="uri",
        prose="note",
        optional=[name for name in ("files", "experiment") if name in columns],
    )


def _row(finding: Finding, report: ReconcileReport, now: datetime) -> dict[str, object]:
    logged, found = sizes_text(finding.logged_bytes, finding.found_bytes)
    is_linked = finding.may_be_trashed and report.is_linked(finding.uri)
    return {
        "uri": finding.uri,
        "experiment": finding.experiment_id,
        "trial": finding.trial_id,
        "logged": logged,
        "found": found,
        "files": finding.files,
        "age": None if finding.modified_at is None else age_text(now - finding.modified_at),
        "note": "links in the store lead here, so it is left where it is" if is_linked else finding.note,
    }


def _advise(watcher: _Watcher, orphans: Sequence[str], *, record: bool, trash_orphans: bool) -> None:
    """Say what can be done about what was found, where anything can."""
    if watcher.may_be_recorded and not record:
        typer.echo("the log is as it was; record what differs with: ckpt-quota reconcile --record")
    if any(watcher.numbers[kind] for kind in _ORPHANS):
        typer.echo(
            "make an orphan a trial's checkpoint with: ckpt-quota adopt LOCATION -e EXPERIMENT -t TRIAL --resource N"
        )
    if orphans and not trash_orphans:
        typer.echo("move to the trash what has nothing to do with any trial: ckpt-quota reconcile --trash-orphans")


def _answer_trashed(trashed: SweepReport) -> None:
    tally = trashed.tally
    if tally.evicted:
        typer.echo(
            f"{counted(tally.evicted, 'orphan')} moved to the trash, which sweeps empty when it is due; "
            f"see: ckpt-quota evictions -e {ORPHANS_STREAM}; undo with: ckpt-quota restore DECISION"
        )
    for error in tally.errors:
        typer.echo(f"failed: {error}", err=True)
    for reason in trashed.untrusted.values():
        typer.echo(f"not moved: {reason}", err=True)

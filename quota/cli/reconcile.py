"""`ckpt-quota reconcile`: compare the stores with the log."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.exit_codes import FAILED
from quota.cli.session import DatabaseOption, JsonOption, MovesBar, opened, policy_parameters, print_json, progress
from quota.cli.tables import counted, print_table, size_text
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


class _Watcher:
    """Shows progress, and keeps the first findings of each kind; or prints them all, for machines."""

    def __init__(self, bar: Progress, *, as_json: bool) -> None:
        self._bar = bar
        self._task = bar.add_task("listed", total=None)
        self._as_json = as_json
        self._listed = 0
        self.numbers: Counter[str] = Counter()
        self.recorded: Counter[str] = Counter()
        self.files: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self.first: dict[str, list[Finding]] = defaultdict(list)
        self.orphans: list[str] = []

    def listed(self) -> None:
        """Move the bar on."""
        self._listed += 1
        if self._listed % _LISTED_AT_ONCE == 0:
            self._bar.update(self._task, completed=self._listed)

    def found(self, finding: Finding) -> None:
        """Count a finding."""
        kind = finding.kind
        self.numbers[kind] += 1
        if finding.may_be_trashed:
            self.orphans.append(finding.uri)
        self.recorded[kind] += finding.is_recorded
        self.files[kind] += finding.files or 0
        self.sizes[kind] += finding.found_bytes or finding.logged_bytes or 0
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
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what lies in the stores with what the log says. Moves nothing, unless told to.

    With --json, each finding is a line of its own, and the last line sums up.
    """
    from quota.bootstrap import sweep_order
    from quota.services.findings import ReconcileOrder
    from quota.services.sweep_order import SweepReport

    trashed = SweepReport()
    with opened(database, orphans_older_than=orphans_older_than) as (services, settings):
        order = ReconcileOrder(settings.orphans_older_than, settings.lease_term, record=record)
        with progress(quiet=as_json) as bar:
            watcher = _Watcher(bar, as_json=as_json)
            report = services.reconciler.reconcile(stores or [], order, watcher)
        orphans = [uri for uri in watcher.orphans if not report.is_linked(uri)]
        if trash_orphans and orphans:
            how = sweep_order(settings, policy_parameters(settings, None))
            with progress(quiet=as_json) as bar:
                trashed = services.sweeper.trash_orphans(
                    orphans, settings.orphans_older_than, how, MovesBar(bar, "moving orphans")
                )
    if as_json:
        print_json(_summed_up(report, watcher, trashed))
    else:
        _answer(report, watcher, record=record)
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


def _answer(report: ReconcileReport, watcher: _Watcher, *, record: bool) -> None:
    typer.echo(
        f"{counted(report.files, 'file')} ({size_text(report.size_bytes)}) compared with "
        f"{counted(report.checkpoints, 'checkpoint')}: "
        + ("no difference" if not watcher.numbers else counted(watcher.numbers.total(), "difference"))
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
        print_table(
            "",
            ["difference", "uri", "experiment", "trial", "logged", "found", "note"],
            [_row(finding, report) for kind in kinds for finding in watcher.first[kind]],
            "",
        )
    more = sum(max(0, number - _SHOWN) for number in watcher.numbers.values())
    if more:
        typer.echo(f"{more} more; --json prints them all")
    unrecorded = {"missing", "turned_up", "resized"} & set(kinds)
    if unrecorded and not record:
        typer.echo("the log is as it was; record what differs with: ckpt-quota reconcile --record")
    for error in report.errors:
        typer.echo(f"failed: {error}", err=True)
    for reason in report.untrusted.values():
        typer.echo(f"not compared: {reason}", err=True)


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


def _row(finding: Finding, report: ReconcileReport) -> list[object]:
    sizes = (finding.logged_bytes, finding.found_bytes)
    return [
        _WORDS[finding.kind],
        finding.uri,
        finding.experiment_id,
        finding.trial_id,
        *(None if size is None else size_text(size) for size in sizes),
        _note(finding, report),
    ]


def _note(finding: Finding, report: ReconcileReport) -> str | None:
    if finding.may_be_trashed and report.is_linked(finding.uri):
        return "links in the store lead here, so it is left where it is"
    return finding.note

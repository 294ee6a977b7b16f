"""`ckpt-quota demo`: see it work on a recorded real run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quota.cli.session import JsonOption, print_json, progress
from quota.cli.tables import picked, print_table, size_text, small

if TYPE_CHECKING:
    from quota.demo.report import Report

DEFAULT_DIRECTORY = Path("ckpt-quota-demo")
_SHOWN = 10


def demo(
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIR", help="Where to put it; must not exist yet.")
    ] = DEFAULT_DIRECTORY,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many checkpoints may be kept.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Replay a recorded real run: its events, its checkpoints as real files, a sweep a tuner loop."""
    from quota.demo.replay import replay
    from quota.demo.report import report_on
    from quota.domain.events import PolicyParameters

    parameters = PolicyParameters()
    with progress(quiet=as_json) as bar:
        task = bar.add_task("replaying nine minutes of tuning", total=None)
        outcome = replay(
            directory,
            parameters,
            limit,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    report = report_on(outcome, limit)
    if as_json:
        print_json(report.for_machines())
    else:
        _show(report, parameters.policy)


def _show(report: Report, policy: str) -> None:
    outcome, experiment = report.outcome, report.experiment
    typer.echo(
        f"Replayed a run of Syne Tune: {report.trials} trials of an MLP on the digits data, promotion ASHA, "
        f"{outcome.loops} tuner loops,\nat most {report.limit} checkpoints, chosen by the policy {policy}."
    )
    saved = 1 - outcome.peak_bytes / outcome.peak_unlimited_bytes
    rows: list[list[Any]] = [
        ["checkpoints at most", outcome.peak_checkpoints, outcome.peak_unlimited_checkpoints],
        ["stored at most", size_text(outcome.peak_stored_bytes), size_text(outcome.peak_unlimited_bytes)],
        ["with the trash", size_text(outcome.peak_bytes), size_text(outcome.peak_unlimited_bytes)],
    ]
    print_table(f"The limit saved {saved:.0%} of the disk", ["", "with the limit", "without"], rows, "")
    print_table(
        f"What was evicted: {experiment['checkpoints_evicted']} checkpoints, by the rung that they were paused at",
        ["level", "evicted", "size", "mean p resume", "expected loss", "missed", "lost"],
        [
            [
                row["level"],
                row["evicted"],
                size_text(row["size_bytes"]),
                small(row["mean_resume_probability"]),
                small(row["expected_loss"]),
                row["resumed"],
                row["lost"],
            ]
            for row in report.by_level
        ],
        "nothing",
        optional=["size"],
    )
    print_table(
        f"The last {_SHOWN} decisions and their reasons",
        ["trial", "level", "rank", "of", "p better", "from", "p resume", "loss", "size", "outcome"],
        [
            [
                row["trial_id"],
                row["level"],
                row["rank"],
                row["rung_length"],
                small(row["p_better"]),
                f"{row['estimator_ones']}/{row['estimator_total']} ({row['estimator']})",
                small(row["resume_probability"]),
                small(row["score"]),
                size_text(row["size_bytes"]),
                row["outcome"],
            ]
            for row in report.decisions[:_SHOWN]
        ],
        "none",
        optional=["outcome", "size", "of", "rank"],
    )
    typer.echo(
        f"Cost: of {experiment['trials_resumed']} resumed trials, {experiment['trials_resumed_without_checkpoint']} "
        f"had lost their checkpoint; {experiment['lost_resource']} epochs have to be trained again."
    )
    print_table(
        "Estimators: how often a new report beat a trial paused at that level",
        ["estimator", "level", "better", "of", "posterior mean"],
        picked(report.estimators, ["estimator", "level", "ones", "total", "posterior_mean"]),
        "none",
    )
    typer.echo(f"Ask further in SQL: sqlite3 {outcome.directory / 'quota.db'}\n")
    for question, query in report.queries:
        typer.echo(f"-- {question}\n{query}\n")

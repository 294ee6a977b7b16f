"""What each column of the auditors' views says. PostgreSQL keeps it as comments, `docs/sql-views.md` as tables."""

from __future__ import annotations

_DECISION = "Id of the decision; `ckpt-quota restore` takes it."
_EXPERIMENT = "The experiment."
_TRIAL = "The trial."
_URI = "Where the checkpoint lies or lay."

VIEW_COLUMNS: dict[str, dict[str, str]] = {
    "eviction_history": {
        "decision_id": _DECISION,
        "sweep_id": "The sweep that decided; see sweep_history.",
        "decided_at": "When it was decided, by the sweeper's clock.",
        "experiment_id": _EXPERIMENT,
        "trial_id": "The trial whose checkpoint it is; for an orphan an id of its own.",
        "uri": _URI,
        "store_uri": "Root of the store that it lies in, and in whose trash it lies once evicted.",
        "size_bytes": "Size of all its files, as listed when it was decided.",
        "manifest_entries": "How many files or keys it consisted of.",
        "reason": "paused: its trial may be missed least; superseded: its trial has a newer one; stopped, failed or "
        "completed: its trial has ended so; orphan: nobody's.",
        "policy": "The policy that chose it; NULL for an orphan, and so are what it chose by and the limit.",
        "policy_version": "Which version of it scored this.",
        "parameters": "All that the policy depends on, as JSON.",
        "place": "Place in the order of eviction of its plan, from 1.",
        "level": "Rung level that the trial was paused at.",
        "metric": "The value that it was ranked by there; NULL for NaN.",
        "rank": "Its rank in the rung, from 1.",
        "rung_length": "Entries of the rung, promoted ones included.",
        "promotion_quantile": "The rung's.",
        "estimator": "rung or overall: whose counts gave p_better.",
        "estimator_ones": "How many of its data were better or equal.",
        "estimator_total": "How many data it had.",
        "rank_of_equals": "Rank of the best entry with the same metric; only expected-cost asks.",
        "arrivals_better": "The chance of each trial that was on its way to the rung to rank better, as a JSON array.",
        "p_better": "Probability that an arrival ranks better: its posterior mean; by expected-cost, of later ones.",
        "time_ratio": "Time remaining / time elapsed.",
        "resume_probability": "Probability that the trial would be resumed.",
        "kept_resource": "Resource that the trial would not lose, as an older checkpoint of it is pinned.",
        "score": "Expected resource lost; by expected-cost, for each arrival that the place is kept.",
        "seconds_per_resource": "Seconds that a unit of resource takes in this experiment.",
        "cost_seconds": "Expected seconds of lost work, by which evictions of several experiments are compared.",
        "runner_up_uri": "What would have gone next under that limit: the cheapest that was kept.",
        "runner_up_score_seconds": "Its score * seconds_per_resource, by which the two were compared.",
        "limit_scope": "The limit that called for it.",
        "limit_measure": "What that counts: checkpoints, bytes, free_bytes or free_percent.",
        "limit_high": "Its high watermark.",
        "limit_low": "Its low watermark.",
        "usage": "What was counted under that limit then.",
        "usage_after": "What would be counted once the whole plan was carried out.",
        "planned_at": "The time that the sweep planned for.",
        "state_position": "Position of the stream up to which these inputs reflect it.",
        "decided_position": "Position of the decision's own event.",
        "outcome": "claimed, trashed, purging, forbidden (the store must not delete it, so it stays in the trash), "
        "purged, restored, cancelled or failed.",
        "outcome_at": "When it came to that.",
        "freed_bytes": "Bytes freed by purging.",
        "failures": "How often the store refused a step.",
        "error": "What the store said last, or why the claim was given up.",
        "actor": "Who ran the sweep, and on which host.",
        "software_version": "Version of the software that ran it.",
    },
    "eviction_outcomes": {
        "decision_id": _DECISION,
        "experiment_id": _EXPERIMENT,
        "trial_id": "The trial whose checkpoint it is; for an orphan an id of its own.",
        "decided_at": "When it was decided, by the sweeper's clock.",
        "policy": "The policy that chose it; NULL for an orphan.",
        "reason": "As in eviction_history.",
        "level": "Rung level that the trial was paused at.",
        "size_bytes": "Size of all its files.",
        "freed_bytes": "Bytes freed by purging.",
        "resume_probability": "Probability that the trial would be resumed, as it was seen then.",
        "cost_seconds": "Expected seconds of lost work, as it was seen then.",
        "outcome": "As in eviction_history.",
        "trial_status": "What the trial does now; NULL for an orphan.",
        "fate": "not carried out; resumed without: its trial was resumed and had to do without it; restored: it came "
        "back in time; never needed: its trial or its experiment has ended; not needed so far.",
        "resumes_without": "How often its trial was resumed without it.",
        "lost_resource": "Units of resource that had to be consumed again for want of it.",
        "lost_seconds": "How long that takes at the experiment's pace then; NULL where nothing was lost, or known.",
    },
    "checkpoint_inventory": {
        "experiment_id": _EXPERIMENT,
        "trial_id": _TRIAL,
        "uri": _URI,
        "state": "stored, claimed, trashed, purging, purged or missing.",
        "size_bytes": "Size of all its files.",
        "resource": "Units of resource that the trial had consumed when it was written.",
        "saved_at": "When it was written, by the sender's clock.",
        "saved_position": "Position of the event that says so.",
        "is_newest": "Whether no later event says that the trial has saved another one.",
        "pinned": "Whether it is pinned by hand, and so never evicted.",
        "pinned_scope": "A pinned scope that it belongs to, so that it is never evicted; NULL where there is none.",
        "trial_status": "running, paused, stopped, completed or failed.",
        "level": "Rung level that the trial was last paused at.",
        "store": "Root of the store that it lies in; NULL where none does, and then it is never evicted.",
        "decision_id": "The decision that claims it or has taken it.",
    },
    "rung_standings": {
        "experiment_id": _EXPERIMENT,
        "level": "The rung's level.",
        "rank": "The trial's rank in it, from 1; ties in order of arrival.",
        "trial_id": _TRIAL,
        "metric": "The value that it is ranked by; NULL for NaN, which ranks last.",
        "promoted": "Whether it was resumed from here.",
        "has_checkpoint": "Whether it is paused here with a stored checkpoint.",
        "trial_status": "What the trial does now.",
        "rung_length": "Entries of the rung.",
        "promotion_quantile": "The fraction of them that may be promoted.",
    },
    "estimator_status": {
        "experiment_id": _EXPERIMENT,
        "estimator": "rung or overall.",
        "level": "The rung's level; NULL for the overall one.",
        "ones": "How often a new report was better than a paused trial there, or equal.",
        "total": "How often they were compared.",
        "fraction": "ones / total; NULL before there are data.",
        "posterior_mean": "Mean of p under the default prior of mean 0.33 and size 2.",
    },
    "quota_usage": {
        "experiment_id": _EXPERIMENT,
        "held_checkpoints": "What counts under a limit on its own checkpoints: stored ones of trials that may still "
        "run, a running trial at least one.",
        "limit_scope": "The limit on its own checkpoints; NULL where there is none. All limits: limit_usage.",
        "limit_high": "Its high watermark.",
        "limit_low": "Its low watermark.",
        "exceeded": "Whether it is above the high watermark.",
        "running_trials": "Trials that run.",
        "stored_checkpoints": "Checkpoints at their places.",
        "stored_bytes": "Their sizes.",
        "claimed_checkpoints": "Checkpoints about to be moved to the trash.",
        "claimed_bytes": "Their sizes.",
        "trashed_checkpoints": "Checkpoints in the trash, still on the disk.",
        "trashed_bytes": "Their sizes.",
        "freed_bytes": "Bytes freed so far.",
    },
    "limit_shares": {
        "scope": "What the limit holds for: of one on experiments, the one experiment.",
        "measure": "What it counts: checkpoints, bytes, free_bytes or free_percent.",
        "set_for": "The scope as it was set.",
        "experiment_id": "An experiment that it holds for, or whose checkpoints lie in it.",
        "used": "What of that experiment counts: checkpoints, or bytes stored, claimed and in the trash, of limits on "
        "free space too.",
    },
    "limit_usage": {
        "scope": "What the limit holds for; one on experiments is shown for each one that has none of its own.",
        "measure": "What it counts: checkpoints, bytes, free_bytes or free_percent.",
        "set_for": "The scope as it was set.",
        "high": "A sweep starts above this; of free space below it.",
        "low": "A sweep stops here; of free space this is what it leaves free.",
        "used": "The sum of its limit_shares.",
        "exceeded": "Whether that is above the high watermark; NULL of free space, which only the disk tells.",
        "experiments": "How many experiments have a share.",
        "set_at": "When it was set.",
        "actor": "Who set it.",
    },
    "trial_history": {
        "experiment_id": _EXPERIMENT,
        "position": "Position in the experiment's stream.",
        "trial_id": _TRIAL,
        "type": "What happened.",
        "occurred_at": "When, by the sender's clock.",
        "recorded_at": "When it was stored, by the database's clock.",
        "resource": "Units of resource, of a report or a checkpoint.",
        "level": "Rung level, of a pause, a resume or a decision.",
        "metric": "The value reported; NULL for NaN.",
        "uri": "The checkpoint's location, of events about one.",
        "size_bytes": "Its size.",
        "decision_id": "The decision, of events about an eviction.",
        "flag": "Why the event has no effect, or its time is not used; NULL for most.",
        "actor": "Who said so.",
    },
    "sweep_history": {
        "sweep_id": "Id of the sweep.",
        "started_at": "When it began.",
        "finished_at": "When it ended; NULL while it runs, or where it was killed.",
        "duration_seconds": "How long it took.",
        "status": "finished or unfinished.",
        "policy": "The policy.",
        "seed": "What the policy random drew by.",
        "parameters": "All that the policy depended on, as JSON.",
        "decided": "Evictions decided.",
        "evicted": "Checkpoints moved to the trash, those of earlier sweeps' open claims included.",
        "failed": "Steps that a store refused.",
        "cancelled": "Evictions given up before the store was asked.",
        "missing": "Checkpoints that were not where the log said they were.",
        "freed_bytes": "Bytes freed.",
        "exceeded": "What was still above a limit, as a JSON list: experiments, and scopes that experiments share.",
        "errors": "The first of what stores refused, or checkpoints were left alone for, as a JSON list.",
        "software_version": "Version of the software that ran it.",
        "actor": "Who ran it.",
    },
}


_HEADING = """# SQL views for auditors

Stable on SQLite and PostgreSQL. They show what the projections hold; `ckpt-quota experiment list` or any sweep brings
these up to date. Times are UTC: `timestamptz` on PostgreSQL, ISO 8601 text on SQLite. False and true are 0 and 1 on
SQLite.
"""


def views_page() -> str:
    """Return `docs/sql-views.md`."""
    parts = [_HEADING]
    for view, columns in VIEW_COLUMNS.items():
        rows = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in columns.items())
        parts.append(f"## {view}\n\n| column | meaning |\n| --- | --- |\n{rows}\n")
    return "\n".join(parts)

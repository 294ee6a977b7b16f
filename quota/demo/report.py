"""What a newcomer wants to see after the replay, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from quota.bootstrap import services
from quota.demo.replay import ACTOR, EXPERIMENT, Outcome
from quota.services.querying import ESTIMATORS, EXPERIMENTS

# An eviction was missed if its trial was resumed before it wrote another checkpoint; the level is lost then.
BY_LEVEL = """
    SELECT level, count(*) AS evicted, sum(size_bytes) AS size_bytes,
           avg(resume_probability) AS mean_resume_probability, sum(score) AS expected_loss,
           sum(missed) AS resumed, sum(missed * level) AS lost
    FROM (
        SELECT d.level, d.size_bytes, d.resume_probability, d.score,
               CASE WHEN (
                   SELECT h.type FROM trial_history h
                   WHERE h.experiment_id = d.experiment_id AND h.trial_id = d.trial_id
                     AND h.position > d.decided_position AND h.type IN ('trial_resumed', 'checkpoint_saved')
                   ORDER BY h.position LIMIT 1
               ) = 'trial_resumed' AND d.outcome IN ('trashed', 'purging', 'purged') THEN 1 ELSE 0 END AS missed
        FROM eviction_history d
        WHERE d.experiment_id = :experiment_id
    )
    GROUP BY level ORDER BY level
"""

QUERIES = (
    (
        "What was evicted from each rung, and how sure was that?",
        """SELECT level, count(*) AS evicted, round(CAST(avg(resume_probability) AS NUMERIC), 4) AS mean_p_resume,
       round(CAST(sum(score) AS NUMERIC), 3) AS expected_loss
FROM eviction_history GROUP BY level ORDER BY level;""",
    ),
    (
        "Which evictions were the hardest, and on what did they rest?",
        """SELECT trial_id, level, rank || ' of ' || rung_length AS rank,
       estimator_ones || '/' || estimator_total AS data,
       round(CAST(p_better AS NUMERIC), 3) AS p_better,
       round(CAST(resume_probability AS NUMERIC), 4) AS p_resume, round(CAST(score AS NUMERIC), 4) AS score
FROM eviction_history ORDER BY score DESC LIMIT 5;""",
    ),
    (
        "What happened to trial 9?",
        """SELECT position, type, resource, level, round(CAST(metric AS NUMERIC), 3) AS metric, size_bytes
FROM trial_history WHERE trial_id = '9' ORDER BY position;""",
    ),
)
"""Each with the question that it answers, fit to be pasted into `sqlite3`."""


@dataclass(slots=True)
class Report:
    """What the replay came to.

    Attributes:
        outcome: What it saw on its way.
        limit: How many checkpoints were allowed.
        trials: How many trials there were.
        experiment: The experiment's sums.
        by_level: Evictions by rung.
        decisions: All decisions, newest first.
        estimators: Their counts.
    """

    outcome: Outcome
    limit: int
    trials: int
    experiment: dict[str, Any]
    by_level: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    estimators: list[dict[str, Any]] = field(default_factory=list)

    @property
    def queries(self) -> tuple[tuple[str, str], ...]:
        """Questions to go on with, and their SQL."""
        return QUERIES

    def for_machines(self) -> dict[str, Any]:
        """Return the report as one JSON object."""
        outcome = self.outcome
        return {
            "database": str(outcome.directory / "quota.db"),
            "loops": outcome.loops,
            "trials": self.trials,
            "limit": self.limit,
            "peak_checkpoints": outcome.peak_checkpoints,
            "peak_checkpoints_without_limit": outcome.peak_unlimited_checkpoints,
            "peak_stored_bytes": outcome.peak_stored_bytes,
            "peak_bytes_with_trash": outcome.peak_bytes,
            "peak_bytes_without_limit": outcome.peak_unlimited_bytes,
            "experiment": self.experiment,
            "evictions_by_level": self.by_level,
            "estimators": self.estimators,
        }


def report_on(outcome: Outcome, limit: int) -> Report:
    """Ask the demo's database."""
    with services(f"sqlite:///{outcome.directory / 'quota.db'}", ACTOR) as found:
        ask = found.queries.ask
        counted = ask("SELECT count(*) AS trials FROM trials WHERE experiment_id = :id", id=EXPERIMENT)
        return Report(
            outcome=outcome,
            limit=limit,
            trials=counted[0]["trials"],
            experiment=ask(EXPERIMENTS, experiment_id=EXPERIMENT)[0],
            by_level=ask(BY_LEVEL, experiment_id=EXPERIMENT),
            decisions=found.queries.evictions(EXPERIMENT, None, 10_000),
            estimators=ask(ESTIMATORS, experiment_id=EXPERIMENT),
        )

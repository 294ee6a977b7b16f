"""The auditors' views: one text for both databases, with the few words in which they differ."""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.schema import DDL

from quota.eventlog.tables import metadata
from quota.projections import tables as _tables
from quota.projections.view_columns import VIEW_COLUMNS

REQUIRED = _tables.EXPERIMENT_TABLES
"""The views stand on these, which must be in the metadata before them."""

_WORDS = {
    "sqlite": {
        # Not `->>`: an SQLite before 3.38, which many auditors' machines have, would refuse the whole database.
        "field": "json_extract",
        "path": "$.",
        "fields": "data",
        "uuid": "TEXT",
        "infinity": "9e999",
        "joined": "group_concat",
        "labels": "json_each(e.labels) AS one",
        "find": "instr",
        # To the microsecond, which julianday is not.
        "duration": (
            "strftime('%s', s.finished_at) - strftime('%s', s.started_at)\n"
            "           + (substr(s.finished_at, 21, 6) - substr(s.started_at, 21, 6)) / 1000000.0"
        ),
    },
    "postgresql": {
        "field": "json_extract_path_text",
        "path": "",
        # One NUL, in a text that nobody asks for here, would make PostgreSQL refuse the whole view for ever.
        "fields": r"CAST(replace(CAST(data AS TEXT), '\u0000', '\ufffd') AS JSON)",
        "uuid": "UUID",
        "infinity": "CAST('Infinity' AS DOUBLE PRECISION)",
        "joined": "string_agg",
        "labels": "json_each_text(e.labels) AS one(key, value)",
        "find": "strpos",
        "duration": "CAST(EXTRACT(EPOCH FROM s.finished_at - s.started_at) AS DOUBLE PRECISION)",
    },
}

_LABELLED = """EXISTS (
           SELECT 1 FROM {{labels}}
           WHERE {{find}}(one.key, '=') = 0 AND {scope} = 'label:' || one.key || '=' || one.value
       )"""
"""Whether an experiment `e` has the label of a scope, whose key ends at the first `=`."""

_BELOW = """(
           substr({scope}, 1, 6) = 'store:'
           AND substr(rtrim({uri}, '/') || '/', 1, length(rtrim({scope}, '/')) - 5)
             = rtrim(substr({scope}, 7), '/') || '/'
       )"""
"""Whether a checkpoint lies below the URI of a scope, or is what it names."""

_TEXTS = {
    "eviction_history": """
SELECT d.decision_id, d.sweep_id, d.decided_at, d.experiment_id, d.trial_id, d.uri, d.store_uri, d.size_bytes,
       d.manifest_entries, d.reason, d.policy, d.policy_version, d.parameters, d.place, d.level, d.metric, d.rank,
       d.rung_length, d.promotion_quantile, d.estimator, d.estimator_ones, d.estimator_total,
       d.rank_of_equals, d.arrivals_better, d.p_better, d.time_ratio, d.resume_probability, d.kept_resource,
       d.score, d.seconds_per_resource, d.cost_seconds, d.runner_up_uri, d.runner_up_score_seconds,
       d.limit_scope, d.limit_measure, d.limit_high, d.limit_low, d.usage, d.usage_after,
       d.planned_at, d.state_position, d.decided_position,
       d.outcome, d.outcome_at, d.freed_bytes, d.failures, d.error, d.actor, s.software_version
FROM decisions d
LEFT JOIN sweeps s ON s.sweep_id = d.sweep_id
""",
    "eviction_outcomes": """
SELECT d.decision_id, d.experiment_id, d.trial_id, d.decided_at, d.policy, d.reason, d.level, d.size_bytes,
       d.freed_bytes, d.resume_probability, d.cost_seconds, d.outcome, t.status AS trial_status,
       CASE
           WHEN d.outcome IN ('cancelled', 'failed') THEN 'not carried out'
           WHEN l.resumes > 0 THEN 'resumed without'
           WHEN d.outcome = 'restored' THEN 'restored'
           WHEN t.status IN ('stopped', 'completed', 'failed') OR e.finished_at IS NOT NULL THEN 'never needed'
           ELSE 'not needed so far'
       END AS fate,
       coalesce(l.resumes, 0) AS resumes_without, coalesce(l.lost_resource, 0) AS lost_resource, l.lost_seconds
FROM decisions d
LEFT JOIN trials t ON t.experiment_id = d.experiment_id AND t.trial_id = d.trial_id
LEFT JOIN experiments e ON e.experiment_id = d.experiment_id
LEFT JOIN (
    SELECT decision_id, count(*) AS resumes, CAST(sum(lost_resource) AS BIGINT) AS lost_resource,
           sum(lost_seconds) AS lost_seconds
    FROM losses GROUP BY decision_id
) l ON l.decision_id = d.decision_id
""",
    "checkpoint_inventory": """
SELECT c.experiment_id, c.trial_id, c.uri, c.state, c.size_bytes, c.resource, c.saved_at, c.saved_position,
       c.saved_position = max(c.saved_position) OVER (PARTITION BY c.experiment_id, c.trial_id) AS is_newest,
       c.pinned,
       (
           SELECT min(p.scope) FROM scope_pins p
           WHERE p.scope IN ('deployment', 'experiment:' || c.experiment_id) OR {below_pin} OR {labelled_pin}
       ) AS pinned_scope,
       t.status AS trial_status, t.level,
       (
           SELECT s.uri FROM stores s
           WHERE s.removed_at IS NULL
             AND substr(c.uri, 1, length(rtrim(s.uri, '/')) + 1) = rtrim(s.uri, '/') || '/'
             AND rtrim(c.uri, '/') <> rtrim(s.uri, '/')
           ORDER BY length(s.uri) DESC LIMIT 1
       ) AS store,
       c.decision_id
FROM checkpoints c
JOIN trials t ON t.experiment_id = c.experiment_id AND t.trial_id = c.trial_id
JOIN experiments e ON e.experiment_id = c.experiment_id
""",
    "rung_standings": """
SELECT e.experiment_id, e.level,
       row_number() OVER (
           PARTITION BY e.experiment_id, e.level ORDER BY e.rank_value, e.placed_position, e.trial_id
       ) AS rank,
       e.trial_id, e.metric, e.promoted, e.has_checkpoint, t.status AS trial_status,
       r.length AS rung_length, r.promotion_quantile
FROM rung_entries e
JOIN rungs r ON r.experiment_id = e.experiment_id AND r.level = e.level
JOIN trials t ON t.experiment_id = e.experiment_id AND t.trial_id = e.trial_id
""",
    "estimator_status": """
SELECT experiment_id,
       CASE WHEN level = 0 THEN 'overall' ELSE 'rung' END AS estimator,
       nullif(level, 0) AS level, ones, total,
       CAST(ones AS DOUBLE PRECISION) / nullif(total, 0) AS fraction,
       (CAST(0.33 AS DOUBLE PRECISION) * 2 + ones) / (2 + total) AS posterior_mean
FROM estimators
""",
    "quota_usage": """
SELECT u.experiment_id, u.held_checkpoints,
       coalesce(own.scope, each_one.scope) AS limit_scope,
       coalesce(own.high, each_one.high) AS limit_high,
       coalesce(own.low, each_one.low) AS limit_low,
       coalesce(u.held_checkpoints > coalesce(own.high, each_one.high), FALSE) AS exceeded,
       u.running_trials, u.stored_checkpoints, u.stored_bytes, u.claimed_checkpoints, u.claimed_bytes,
       u.trashed_checkpoints, u.trashed_bytes, u.freed_bytes
FROM usage u
LEFT JOIN limits own ON own.scope = 'experiment:' || u.experiment_id AND own.measure = 'checkpoints'
LEFT JOIN limits each_one ON each_one.scope = 'experiments' AND each_one.measure = 'checkpoints'
""",
    "limit_shares": """
SELECT CASE WHEN l.scope = 'experiments' THEN 'experiment:' || e.experiment_id ELSE l.scope END AS scope,
       l.measure, l.scope AS set_for, e.experiment_id,
       CASE
           WHEN l.measure = 'checkpoints' THEN u.held_checkpoints
           ELSE u.stored_bytes + u.claimed_bytes + u.trashed_bytes
       END AS used
FROM limits l
JOIN experiments e
  ON l.scope IN ('deployment', 'experiment:' || e.experiment_id)
  OR {labelled_limit}
  OR l.scope = 'experiments' AND NOT EXISTS (
           SELECT 1 FROM limits own WHERE own.scope = 'experiment:' || e.experiment_id AND own.measure = l.measure
       )
JOIN usage u ON u.experiment_id = e.experiment_id
UNION ALL
SELECT l.scope, l.measure, l.scope AS set_for, held.experiment_id,
       CAST(sum(CASE WHEN l.measure = 'checkpoints' THEN held.counts ELSE held.size_bytes END) AS BIGINT) AS used
FROM limits l
JOIN (
    SELECT c.experiment_id, c.uri, c.size_bytes,
           CASE WHEN c.state = 'stored' AND t.status IN ('running', 'paused') THEN 1 ELSE 0 END AS counts
    FROM checkpoints c
    JOIN trials t ON t.experiment_id = c.experiment_id AND t.trial_id = c.trial_id
    WHERE c.state IN ('stored', 'claimed')
    UNION ALL
    SELECT d.experiment_id, d.uri, d.size_bytes, 0 AS counts
    FROM decisions d WHERE d.outcome IN ('trashed', 'purging', 'forbidden')
) held ON {below_limit}
GROUP BY l.scope, l.measure, held.experiment_id
""",
    "limit_usage": """
SELECT coalesce(s.scope, l.scope) AS scope, l.measure, l.scope AS set_for, l.high, l.low,
       CAST(coalesce(sum(s.used), 0) AS BIGINT) AS used,
       CASE WHEN l.measure IN ('checkpoints', 'bytes') THEN coalesce(sum(s.used), 0) > l.high END AS exceeded,
       count(s.experiment_id) AS experiments, l.set_at, l.actor
FROM limits l
LEFT JOIN limit_shares s ON s.set_for = l.scope AND s.measure = l.measure
GROUP BY coalesce(s.scope, l.scope), l.measure, l.scope, l.high, l.low, l.set_at, l.actor
""",
    "trial_history": """
SELECT e.experiment_id, e.position, e.trial_id, e.type, e.occurred_at, e.recorded_at,
       CAST({field}(e.fields, '{path}resource') AS BIGINT) AS resource,
       CAST({field}(e.fields, '{path}level') AS BIGINT) AS level,
       CASE {field}(e.fields, '{path}metric')
           WHEN 'NaN' THEN NULL
           WHEN 'Infinity' THEN {infinity}
           WHEN '-Infinity' THEN -{infinity}
           ELSE CAST({field}(e.fields, '{path}metric') AS DOUBLE PRECISION)
       END AS metric,
       {field}(e.fields, '{path}uri') AS uri,
       CAST({field}(e.fields, '{path}size_bytes') AS BIGINT) AS size_bytes,
       CAST({field}(e.fields, '{path}decision_id') AS {uuid}) AS decision_id,
       (
           SELECT {joined}(sorted.reason, ', ')
           FROM (
               SELECT f.reason FROM flags f
               WHERE f.experiment_id = e.experiment_id AND f.position = e.position
               ORDER BY f.reason
           ) sorted
       ) AS flag,
       e.actor
FROM (
    SELECT events.*, {fields} AS fields
    FROM events WHERE trial_id IS NOT NULL
) e
""",
    "sweep_history": """
SELECT s.sweep_id, s.started_at, s.finished_at,
       {duration} AS duration_seconds,
       CASE WHEN s.finished_at IS NULL THEN 'unfinished' ELSE 'finished' END AS status,
       s.policy, CAST({field}(s.parameters, '{path}seed') AS BIGINT) AS seed, s.parameters,
       s.decided, s.evicted, s.failed, s.cancelled, s.missing, s.freed_bytes, s.exceeded, s.errors,
       s.software_version, s.actor
FROM sweeps s
""",
}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def view_statements(dialect: str) -> list[str]:
    """Return what makes the views, and on PostgreSQL their columns' comments."""
    words = _WORDS[dialect]
    words = words | {
        "below_pin": _BELOW.format(scope="p.scope", uri="c.uri"),
        "below_limit": _BELOW.format(scope="l.scope", uri="held.uri"),
        "labelled_pin": _LABELLED.format(scope="p.scope").format(**words),
        "labelled_limit": _LABELLED.format(scope="l.scope").format(**words),
    }
    statements = [f"CREATE VIEW {name} AS\n{text.strip().format(**words)}" for name, text in _TEXTS.items()]
    if dialect == "postgresql":
        statements += [
            f"COMMENT ON COLUMN {view}.{column} IS {_quoted(meaning)}"
            for view, columns in VIEW_COLUMNS.items()
            for column, meaning in columns.items()
        ]
    return statements


for _dialect in _WORDS:
    for _statement in view_statements(_dialect):
        event.listen(metadata, "after_create", DDL(_statement.replace("%", "%%")).execute_if(dialect=_dialect))
for _name in reversed(_TEXTS):
    event.listen(metadata, "before_drop", DDL(f"DROP VIEW IF EXISTS {_name}"))

CREATE TABLE archives (
    experiment_id TEXT NOT NULL,
    uri TEXT NOT NULL,
    position BIGINT NOT NULL,
    head_hash TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    archived_at VARCHAR(27) NOT NULL,
    actor TEXT NOT NULL,
    removed_at VARCHAR(27),
    CONSTRAINT pk_archives PRIMARY KEY (experiment_id, uri)
)
--
CREATE TABLE checkpoint_locations (
    location TEXT NOT NULL,
    experiment_id TEXT NOT NULL,
    trial_id TEXT NOT NULL,
    CONSTRAINT pk_checkpoint_locations PRIMARY KEY (location)
)
--
CREATE TABLE checkpoints (
    experiment_id TEXT NOT NULL,
    uri TEXT NOT NULL,
    trial_id TEXT NOT NULL,
    state TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    resource BIGINT NOT NULL,
    saved_position BIGINT NOT NULL,
    saved_at VARCHAR(27) NOT NULL,
    pinned BOOLEAN NOT NULL,
    decision_id VARCHAR(36),
    failures INTEGER NOT NULL,
    failed_at VARCHAR(27),
    CONSTRAINT pk_checkpoints PRIMARY KEY (experiment_id, uri)
)
--
CREATE INDEX ix_checkpoints_experiment_id_trial_id ON checkpoints (experiment_id, trial_id)
--
CREATE TABLE clock_readings (
    boot TEXT NOT NULL,
    up_seconds DOUBLE NOT NULL,
    read_at VARCHAR(27) NOT NULL,
    CONSTRAINT pk_clock_readings PRIMARY KEY (boot)
)
--
CREATE TABLE decisions (
    decision_id VARCHAR(36) NOT NULL,
    experiment_id TEXT NOT NULL,
    sweep_id VARCHAR(36) NOT NULL,
    trial_id TEXT NOT NULL,
    uri TEXT NOT NULL,
    store_uri TEXT NOT NULL,
    checkpoint_position BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    manifest_entries BIGINT NOT NULL,
    reason TEXT NOT NULL,
    state_position BIGINT NOT NULL,
    place BIGINT NOT NULL,
    limit_scope TEXT,
    limit_measure TEXT,
    limit_high BIGINT,
    limit_low BIGINT,
    usage BIGINT,
    usage_after BIGINT,
    planned_at VARCHAR(27),
    policy TEXT,
    policy_version BIGINT,
    parameters JSON,
    level BIGINT,
    metric DOUBLE,
    rank BIGINT,
    rung_length BIGINT,
    promotion_quantile DOUBLE,
    estimator TEXT,
    estimator_ones BIGINT,
    estimator_total BIGINT,
    rank_of_equals BIGINT,
    arrivals_better JSON,
    p_better DOUBLE,
    time_ratio DOUBLE,
    resume_probability DOUBLE,
    kept_resource BIGINT,
    score DOUBLE,
    seconds_per_resource DOUBLE,
    cost_seconds DOUBLE,
    runner_up_uri TEXT,
    runner_up_score_seconds DOUBLE,
    decided_position BIGINT NOT NULL,
    decided_at VARCHAR(27) NOT NULL,
    actor TEXT NOT NULL,
    outcome TEXT NOT NULL,
    outcome_at VARCHAR(27),
    freed_bytes BIGINT NOT NULL,
    failures INTEGER NOT NULL,
    failed_at VARCHAR(27),
    error TEXT,
    CONSTRAINT pk_decisions PRIMARY KEY (decision_id)
)
--
CREATE INDEX ix_decisions_experiment_id_decided_position ON decisions (experiment_id, decided_position)
--
CREATE INDEX ix_decisions_open ON decisions (experiment_id) WHERE outcome IN ('claimed', 'trashed', 'purging', 'forbidden')
--
CREATE INDEX ix_decisions_sweep_id ON decisions (sweep_id)
--
CREATE TABLE estimators (
    experiment_id TEXT NOT NULL,
    level BIGINT NOT NULL,
    ones BIGINT NOT NULL,
    total BIGINT NOT NULL,
    CONSTRAINT pk_estimators PRIMARY KEY (experiment_id, level)
)
--
CREATE TABLE events (
    global_position INTEGER NOT NULL,
    experiment_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    event_id VARCHAR(36) NOT NULL,
    type TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    trial_id TEXT,
    occurred_at VARCHAR(27) NOT NULL,
    recorded_at VARCHAR(27) NOT NULL,
    actor TEXT NOT NULL,
    data JSON NOT NULL,
    hash BLOB NOT NULL,
    CONSTRAINT pk_events PRIMARY KEY (global_position),
    CONSTRAINT uq_events_experiment_id_position UNIQUE (experiment_id, position),
    CONSTRAINT uq_events_event_id UNIQUE (event_id)
)
--
CREATE INDEX ix_events_experiment_id_trial_id_position ON events (experiment_id, trial_id, position)
--
CREATE TRIGGER events_reject_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed: the log is append-only'); END
--
CREATE TRIGGER events_reject_delete BEFORE DELETE ON events WHEN NOT EXISTS (SELECT 1 FROM streams WHERE experiment_id = OLD.experiment_id AND archive_uri IS NOT NULL) BEGIN SELECT RAISE(ABORT, 'events are never changed: the log is append-only'); END
--
CREATE TRIGGER events_reject_replace BEFORE INSERT ON events WHEN EXISTS (SELECT 1 FROM events WHERE event_id = NEW.event_id OR (experiment_id = NEW.experiment_id AND position = NEW.position) OR global_position = NEW.global_position) BEGIN SELECT RAISE(ABORT, 'events are never changed: the log is append-only'); END
--
CREATE TABLE experiments (
    experiment_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    max_resource BIGINT NOT NULL,
    max_wallclock_seconds DOUBLE,
    labels JSON NOT NULL,
    started_at VARCHAR(27) NOT NULL,
    finished_at VARCHAR(27),
    trials_resumed BIGINT NOT NULL,
    trials_resumed_without_checkpoint BIGINT NOT NULL,
    lost_resource BIGINT NOT NULL,
    checkpoints_evicted BIGINT NOT NULL,
    CONSTRAINT pk_experiments PRIMARY KEY (experiment_id)
)
--
CREATE TABLE flags (
    experiment_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT pk_flags PRIMARY KEY (experiment_id, position, reason)
)
--
CREATE TABLE heartbeats (
    daemon_id VARCHAR(36) NOT NULL,
    holder TEXT NOT NULL,
    process TEXT,
    software_version TEXT NOT NULL,
    started_at VARCHAR(27) NOT NULL,
    beat_at VARCHAR(27) NOT NULL,
    silent_after VARCHAR(27) NOT NULL,
    last_job TEXT,
    last_job_at VARCHAR(27),
    last_error TEXT,
    CONSTRAINT pk_heartbeats PRIMARY KEY (daemon_id)
)
--
CREATE TABLE leases (
    name TEXT NOT NULL,
    token BIGINT NOT NULL,
    holder TEXT,
    process TEXT,
    acquired_at VARCHAR(27),
    expires_at VARCHAR(27),
    CONSTRAINT pk_leases PRIMARY KEY (name)
)
--
CREATE TABLE limits (
    scope TEXT NOT NULL,
    measure TEXT NOT NULL,
    high BIGINT NOT NULL,
    low BIGINT NOT NULL,
    set_at VARCHAR(27) NOT NULL,
    actor TEXT NOT NULL,
    CONSTRAINT pk_limits PRIMARY KEY (scope, measure)
)
--
CREATE TABLE losses (
    experiment_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    decision_id VARCHAR(36) NOT NULL,
    trial_id TEXT NOT NULL,
    lost_resource BIGINT NOT NULL,
    lost_seconds DOUBLE,
    CONSTRAINT pk_losses PRIMARY KEY (experiment_id, position)
)
--
CREATE INDEX ix_losses_decision_id ON losses (decision_id)
--
CREATE TABLE paces (
    experiment_id TEXT NOT NULL,
    bin BIGINT NOT NULL,
    reports BIGINT NOT NULL,
    CONSTRAINT pk_paces PRIMARY KEY (experiment_id, bin)
)
--
CREATE TABLE projected_streams (
    experiment_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    rebuilds BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT pk_projected_streams PRIMARY KEY (experiment_id)
)
--
CREATE TABLE reserves (
    scope TEXT NOT NULL,
    measure TEXT NOT NULL,
    amount BIGINT NOT NULL,
    set_at VARCHAR(27) NOT NULL,
    actor TEXT NOT NULL,
    CONSTRAINT pk_reserves PRIMARY KEY (scope, measure)
)
--
CREATE TABLE rung_entries (
    experiment_id TEXT NOT NULL,
    level BIGINT NOT NULL,
    trial_id TEXT NOT NULL,
    metric DOUBLE,
    rank_value DOUBLE NOT NULL,
    placed_position BIGINT NOT NULL,
    changed_position BIGINT NOT NULL,
    promoted BOOLEAN NOT NULL,
    waits BOOLEAN NOT NULL,
    has_checkpoint BOOLEAN NOT NULL,
    CONSTRAINT pk_rung_entries PRIMARY KEY (experiment_id, level, trial_id)
)
--
CREATE INDEX ix_rung_entries_candidates ON rung_entries (experiment_id) WHERE has_checkpoint
--
CREATE INDEX ix_rung_entries_level_experiment_id_changed_position ON rung_entries (level, experiment_id, changed_position)
--
CREATE TABLE rung_snapshots (
    experiment_id TEXT NOT NULL,
    level BIGINT NOT NULL,
    position BIGINT NOT NULL,
    body BLOB NOT NULL,
    CONSTRAINT pk_rung_snapshots PRIMARY KEY (experiment_id, level)
)
--
CREATE TABLE rungs (
    experiment_id TEXT NOT NULL,
    level BIGINT NOT NULL,
    promotion_quantile DOUBLE NOT NULL,
    length BIGINT NOT NULL,
    CONSTRAINT pk_rungs PRIMARY KEY (experiment_id, level)
)
--
CREATE TABLE scope_pins (
    scope TEXT NOT NULL,
    pinned_at VARCHAR(27) NOT NULL,
    actor TEXT NOT NULL,
    CONSTRAINT pk_scope_pins PRIMARY KEY (scope)
)
--
CREATE TABLE stores (
    uri TEXT NOT NULL,
    store_id VARCHAR(36) NOT NULL,
    added_at VARCHAR(27) NOT NULL,
    actor TEXT NOT NULL,
    removed_at VARCHAR(27),
    CONSTRAINT pk_stores PRIMARY KEY (uri)
)
--
CREATE TABLE streams (
    experiment_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    hash BLOB NOT NULL,
    recorded_at VARCHAR(27),
    archive_uri TEXT,
    CONSTRAINT pk_streams PRIMARY KEY (experiment_id)
)
--
CREATE TABLE sweeps (
    sweep_id VARCHAR(36) NOT NULL,
    started_at VARCHAR(27) NOT NULL,
    finished_at VARCHAR(27),
    actor TEXT NOT NULL,
    policy TEXT NOT NULL,
    parameters JSON NOT NULL,
    software_version TEXT NOT NULL,
    decided BIGINT NOT NULL,
    evicted BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    missing BIGINT NOT NULL,
    freed_bytes BIGINT NOT NULL,
    exceeded JSON NOT NULL,
    errors JSON NOT NULL,
    CONSTRAINT pk_sweeps PRIMARY KEY (sweep_id)
)
--
CREATE INDEX ix_sweeps_unfinished ON sweeps (sweep_id) WHERE finished_at IS NULL
--
CREATE TABLE trials (
    experiment_id TEXT NOT NULL,
    trial_id TEXT NOT NULL,
    status TEXT NOT NULL,
    bracket BIGINT NOT NULL,
    started_at VARCHAR(27) NOT NULL,
    resource BIGINT,
    metric DOUBLE,
    level BIGINT,
    resumes BIGINT NOT NULL,
    lost_resource BIGINT NOT NULL,
    stored_checkpoints BIGINT NOT NULL,
    resumed_position BIGINT,
    timed_at VARCHAR(27),
    timed_resource BIGINT NOT NULL,
    promised_uri TEXT,
    CONSTRAINT pk_trials PRIMARY KEY (experiment_id, trial_id)
)
--
CREATE INDEX ix_trials_live ON trials (experiment_id) WHERE (stored_checkpoints > 0 OR status = 'running')
--
CREATE TABLE usage (
    experiment_id TEXT NOT NULL,
    held_checkpoints BIGINT NOT NULL,
    running_trials BIGINT NOT NULL,
    stored_checkpoints BIGINT NOT NULL,
    stored_bytes BIGINT NOT NULL,
    claimed_checkpoints BIGINT NOT NULL,
    claimed_bytes BIGINT NOT NULL,
    trashed_checkpoints BIGINT NOT NULL,
    trashed_bytes BIGINT NOT NULL,
    freed_bytes BIGINT NOT NULL,
    CONSTRAINT pk_usage PRIMARY KEY (experiment_id)
)
--
CREATE VIEW eviction_history AS
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
--
CREATE VIEW eviction_outcomes AS
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
--
CREATE VIEW checkpoint_inventory AS
SELECT c.experiment_id, c.trial_id, c.uri, c.state, c.size_bytes, c.resource, c.saved_at, c.saved_position,
       c.saved_position = max(c.saved_position) OVER (PARTITION BY c.experiment_id, c.trial_id) AS is_newest,
       c.pinned,
       (
           SELECT min(p.scope) FROM scope_pins p
           WHERE p.scope IN ('deployment', 'experiment:' || c.experiment_id) OR (
           substr(p.scope, 1, 6) = 'store:'
           AND substr(rtrim(c.uri, '/') || '/', 1, length(rtrim(p.scope, '/')) - 5)
             = rtrim(substr(p.scope, 7), '/') || '/'
       ) OR EXISTS (
           SELECT 1 FROM json_each(e.labels) AS one
           WHERE instr(one.key, '=') = 0 AND p.scope = 'label:' || one.key || '=' || one.value
       )
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
--
CREATE VIEW rung_standings AS
SELECT e.experiment_id, e.level,
       row_number() OVER (
           PARTITION BY e.experiment_id, e.level ORDER BY e.rank_value, e.placed_position, e.trial_id
       ) AS rank,
       e.trial_id, e.metric, e.promoted, e.has_checkpoint, t.status AS trial_status,
       r.length AS rung_length, r.promotion_quantile
FROM rung_entries e
JOIN rungs r ON r.experiment_id = e.experiment_id AND r.level = e.level
JOIN trials t ON t.experiment_id = e.experiment_id AND t.trial_id = e.trial_id
--
CREATE VIEW estimator_status AS
SELECT experiment_id,
       CASE WHEN level = 0 THEN 'overall' ELSE 'rung' END AS estimator,
       nullif(level, 0) AS level, ones, total,
       CAST(ones AS DOUBLE PRECISION) / nullif(total, 0) AS fraction,
       (CAST(0.33 AS DOUBLE PRECISION) * 2 + ones) / (2 + total) AS posterior_mean
FROM estimators
--
CREATE VIEW quota_usage AS
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
--
CREATE VIEW limit_shares AS
SELECT CASE WHEN l.scope = 'experiments' THEN 'experiment:' || e.experiment_id ELSE l.scope END AS scope,
       l.measure, l.scope AS set_for, e.experiment_id,
       CASE
           WHEN l.measure = 'checkpoints' THEN u.held_checkpoints
           ELSE u.stored_bytes + u.claimed_bytes + u.trashed_bytes
       END AS used
FROM limits l
JOIN experiments e
  ON l.scope IN ('deployment', 'experiment:' || e.experiment_id)
  OR EXISTS (
           SELECT 1 FROM json_each(e.labels) AS one
           WHERE instr(one.key, '=') = 0 AND l.scope = 'label:' || one.key || '=' || one.value
       )
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
) held ON (
           substr(l.scope, 1, 6) = 'store:'
           AND substr(rtrim(held.uri, '/') || '/', 1, length(rtrim(l.scope, '/')) - 5)
             = rtrim(substr(l.scope, 7), '/') || '/'
       )
GROUP BY l.scope, l.measure, held.experiment_id
--
CREATE VIEW limit_usage AS
SELECT coalesce(s.scope, l.scope) AS scope, l.measure, l.scope AS set_for, l.high, l.low,
       CAST(coalesce(sum(s.used), 0) AS BIGINT) AS used,
       CASE WHEN l.measure IN ('checkpoints', 'bytes') THEN coalesce(sum(s.used), 0) > l.high END AS exceeded,
       count(s.experiment_id) AS experiments, l.set_at, l.actor
FROM limits l
LEFT JOIN limit_shares s ON s.set_for = l.scope AND s.measure = l.measure
GROUP BY coalesce(s.scope, l.scope), l.measure, l.scope, l.high, l.low, l.set_at, l.actor
--
CREATE VIEW trial_history AS
SELECT e.experiment_id, e.position, e.trial_id, e.type, e.occurred_at, e.recorded_at,
       CAST(json_extract(e.fields, '$.resource') AS BIGINT) AS resource,
       CAST(json_extract(e.fields, '$.level') AS BIGINT) AS level,
       CASE json_extract(e.fields, '$.metric')
           WHEN 'NaN' THEN NULL
           WHEN 'Infinity' THEN 9e999
           WHEN '-Infinity' THEN -9e999
           ELSE CAST(json_extract(e.fields, '$.metric') AS DOUBLE PRECISION)
       END AS metric,
       json_extract(e.fields, '$.uri') AS uri,
       CAST(json_extract(e.fields, '$.size_bytes') AS BIGINT) AS size_bytes,
       CAST(json_extract(e.fields, '$.decision_id') AS TEXT) AS decision_id,
       (
           SELECT group_concat(sorted.reason, ', ')
           FROM (
               SELECT f.reason FROM flags f
               WHERE f.experiment_id = e.experiment_id AND f.position = e.position
               ORDER BY f.reason
           ) sorted
       ) AS flag,
       e.actor
FROM (
    SELECT events.*, data AS fields
    FROM events WHERE trial_id IS NOT NULL
) e
--
CREATE VIEW sweep_history AS
SELECT s.sweep_id, s.started_at, s.finished_at,
       strftime('%s', s.finished_at) - strftime('%s', s.started_at)
           + (substr(s.finished_at, 21, 6) - substr(s.started_at, 21, 6)) / 1000000.0 AS duration_seconds,
       CASE WHEN s.finished_at IS NULL THEN 'unfinished' ELSE 'finished' END AS status,
       s.policy, CAST(json_extract(s.parameters, '$.seed') AS BIGINT) AS seed, s.parameters,
       s.decided, s.evicted, s.failed, s.cancelled, s.missing, s.freed_bytes, s.exceeded, s.errors,
       s.software_version, s.actor
FROM sweeps s

CREATE TABLE archives (
    experiment_id TEXT COLLATE "C" NOT NULL,
    uri TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    head_hash TEXT NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    archived_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    removed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_archives PRIMARY KEY (experiment_id, uri)
)
--
CREATE TABLE checkpoint_locations (
    location TEXT COLLATE "C" NOT NULL,
    experiment_id TEXT COLLATE "C" NOT NULL,
    trial_id TEXT NOT NULL,
    CONSTRAINT pk_checkpoint_locations PRIMARY KEY (location)
)
--
CREATE TABLE checkpoints (
    experiment_id TEXT COLLATE "C" NOT NULL,
    uri TEXT COLLATE "C" NOT NULL,
    trial_id TEXT COLLATE "C" NOT NULL,
    state TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    resource BIGINT NOT NULL,
    saved_position BIGINT NOT NULL,
    saved_at TIMESTAMP WITH TIME ZONE NOT NULL,
    pinned BOOLEAN NOT NULL,
    decision_id UUID,
    failures INTEGER NOT NULL,
    failed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_checkpoints PRIMARY KEY (experiment_id, uri)
)
--
CREATE INDEX ix_checkpoints_experiment_id_trial_id ON checkpoints (experiment_id, trial_id)
--
CREATE TABLE clock_readings (
    boot TEXT COLLATE "C" NOT NULL,
    up_seconds DOUBLE PRECISION NOT NULL,
    read_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_clock_readings PRIMARY KEY (boot)
)
--
CREATE TABLE decisions (
    decision_id UUID NOT NULL,
    experiment_id TEXT COLLATE "C" NOT NULL,
    sweep_id UUID NOT NULL,
    trial_id TEXT COLLATE "C" NOT NULL,
    uri TEXT COLLATE "C" NOT NULL,
    store_uri TEXT COLLATE "C" NOT NULL,
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
    planned_at TIMESTAMP WITH TIME ZONE,
    policy TEXT,
    policy_version BIGINT,
    parameters JSON,
    level BIGINT,
    metric DOUBLE PRECISION,
    rank BIGINT,
    rung_length BIGINT,
    promotion_quantile DOUBLE PRECISION,
    estimator TEXT,
    estimator_ones BIGINT,
    estimator_total BIGINT,
    rank_of_equals BIGINT,
    arrivals_better JSON,
    p_better DOUBLE PRECISION,
    time_ratio DOUBLE PRECISION,
    resume_probability DOUBLE PRECISION,
    kept_resource BIGINT,
    score DOUBLE PRECISION,
    seconds_per_resource DOUBLE PRECISION,
    cost_seconds DOUBLE PRECISION,
    runner_up_uri TEXT COLLATE "C",
    runner_up_score_seconds DOUBLE PRECISION,
    decided_position BIGINT NOT NULL,
    decided_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    outcome TEXT NOT NULL,
    outcome_at TIMESTAMP WITH TIME ZONE,
    freed_bytes BIGINT NOT NULL,
    failures INTEGER NOT NULL,
    failed_at TIMESTAMP WITH TIME ZONE,
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
    experiment_id TEXT COLLATE "C" NOT NULL,
    level BIGINT NOT NULL,
    ones BIGINT NOT NULL,
    total BIGINT NOT NULL,
    CONSTRAINT pk_estimators PRIMARY KEY (experiment_id, level)
)
--
CREATE TABLE events (
    global_position BIGINT GENERATED ALWAYS AS IDENTITY,
    experiment_id TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    event_id UUID NOT NULL,
    type TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    trial_id TEXT,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    data JSON NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT pk_events PRIMARY KEY (experiment_id, position),
    CONSTRAINT uq_events_event_id_experiment_id UNIQUE (event_id, experiment_id)
) PARTITION BY HASH (experiment_id)
--
CREATE INDEX ix_events_experiment_id_trial_id_position ON events (experiment_id, trial_id, position)
--
CREATE FUNCTION reject_event_change() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE is_archived boolean; BEGIN IF TG_OP = 'DELETE' THEN EXECUTE format( 'SELECT EXISTS (SELECT 1 FROM %I.streams WHERE experiment_id = $1 AND archive_uri IS NOT NULL)', TG_TABLE_SCHEMA) INTO is_archived USING OLD.experiment_id; IF is_archived THEN RETURN OLD; END IF; END IF; RAISE EXCEPTION 'events are never changed: the log is append-only'; END $$
--
CREATE TRIGGER events_reject_change BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION reject_event_change()
--
CREATE TRIGGER events_reject_truncate BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION reject_event_change()
--
ALTER TABLE events ENABLE ALWAYS TRIGGER events_reject_change
--
ALTER TABLE events ENABLE ALWAYS TRIGGER events_reject_truncate
--
DO $$
DECLARE part text;
BEGIN
    FOR number IN 0..15 LOOP
        part := 'events_' || lpad(number::text, 2, '0');
        EXECUTE 'CREATE TABLE ' || part || ' PARTITION OF events'
            || ' FOR VALUES WITH (MODULUS 16, REMAINDER ' || number || ')';
        EXECUTE 'ALTER TABLE ' || part || ' ENABLE ALWAYS TRIGGER events_reject_change';
        EXECUTE 'CREATE TRIGGER events_reject_truncate BEFORE TRUNCATE ON ' || part
            || ' FOR EACH STATEMENT EXECUTE FUNCTION reject_event_change()';
        EXECUTE 'ALTER TABLE ' || part || ' ENABLE ALWAYS TRIGGER events_reject_truncate';
    END LOOP;
END $$
--
CREATE TABLE experiments (
    experiment_id TEXT COLLATE "C" NOT NULL,
    mode TEXT NOT NULL,
    max_resource BIGINT NOT NULL,
    max_wallclock_seconds DOUBLE PRECISION,
    labels JSON NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    trials_resumed BIGINT NOT NULL,
    trials_resumed_without_checkpoint BIGINT NOT NULL,
    lost_resource BIGINT NOT NULL,
    checkpoints_evicted BIGINT NOT NULL,
    CONSTRAINT pk_experiments PRIMARY KEY (experiment_id)
)
--
CREATE TABLE flags (
    experiment_id TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT pk_flags PRIMARY KEY (experiment_id, position, reason)
)
--
CREATE TABLE heartbeats (
    daemon_id UUID NOT NULL,
    holder TEXT NOT NULL,
    process TEXT,
    software_version TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    beat_at TIMESTAMP WITH TIME ZONE NOT NULL,
    silent_after TIMESTAMP WITH TIME ZONE NOT NULL,
    last_job TEXT,
    last_job_at TIMESTAMP WITH TIME ZONE,
    last_error TEXT,
    CONSTRAINT pk_heartbeats PRIMARY KEY (daemon_id)
)
--
CREATE TABLE leases (
    name TEXT COLLATE "C" NOT NULL,
    token BIGINT NOT NULL,
    holder TEXT,
    process TEXT,
    acquired_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_leases PRIMARY KEY (name)
)
--
CREATE TABLE limits (
    scope TEXT COLLATE "C" NOT NULL,
    measure TEXT NOT NULL,
    high BIGINT NOT NULL,
    low BIGINT NOT NULL,
    set_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    CONSTRAINT pk_limits PRIMARY KEY (scope, measure)
)
--
CREATE TABLE losses (
    experiment_id TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    decision_id UUID NOT NULL,
    trial_id TEXT COLLATE "C" NOT NULL,
    lost_resource BIGINT NOT NULL,
    lost_seconds DOUBLE PRECISION,
    CONSTRAINT pk_losses PRIMARY KEY (experiment_id, position)
)
--
CREATE INDEX ix_losses_decision_id ON losses (decision_id)
--
CREATE TABLE paces (
    experiment_id TEXT COLLATE "C" NOT NULL,
    bin BIGINT NOT NULL,
    reports BIGINT NOT NULL,
    CONSTRAINT pk_paces PRIMARY KEY (experiment_id, bin)
)
--
CREATE TABLE projected_streams (
    experiment_id TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    rebuilds BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT pk_projected_streams PRIMARY KEY (experiment_id)
)
--
CREATE TABLE reserves (
    scope TEXT COLLATE "C" NOT NULL,
    measure TEXT NOT NULL,
    amount BIGINT NOT NULL,
    set_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    CONSTRAINT pk_reserves PRIMARY KEY (scope, measure)
)
--
CREATE TABLE rung_entries (
    experiment_id TEXT COLLATE "C" NOT NULL,
    level BIGINT NOT NULL,
    trial_id TEXT COLLATE "C" NOT NULL,
    metric DOUBLE PRECISION,
    rank_value DOUBLE PRECISION NOT NULL,
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
    experiment_id TEXT COLLATE "C" NOT NULL,
    level BIGINT NOT NULL,
    position BIGINT NOT NULL,
    body BYTEA NOT NULL,
    CONSTRAINT pk_rung_snapshots PRIMARY KEY (experiment_id, level)
)
--
CREATE TABLE rungs (
    experiment_id TEXT COLLATE "C" NOT NULL,
    level BIGINT NOT NULL,
    promotion_quantile DOUBLE PRECISION NOT NULL,
    length BIGINT NOT NULL,
    CONSTRAINT pk_rungs PRIMARY KEY (experiment_id, level)
)
--
CREATE TABLE scope_pins (
    scope TEXT COLLATE "C" NOT NULL,
    pinned_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    CONSTRAINT pk_scope_pins PRIMARY KEY (scope)
)
--
CREATE TABLE stores (
    uri TEXT COLLATE "C" NOT NULL,
    store_id UUID NOT NULL,
    added_at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    removed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_stores PRIMARY KEY (uri)
)
--
CREATE TABLE streams (
    experiment_id TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE,
    archive_uri TEXT,
    CONSTRAINT pk_streams PRIMARY KEY (experiment_id)
)
--
CREATE TABLE sweeps (
    sweep_id UUID NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
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
    experiment_id TEXT COLLATE "C" NOT NULL,
    trial_id TEXT COLLATE "C" NOT NULL,
    status TEXT NOT NULL,
    bracket BIGINT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    resource BIGINT,
    metric DOUBLE PRECISION,
    level BIGINT,
    resumes BIGINT NOT NULL,
    lost_resource BIGINT NOT NULL,
    stored_checkpoints BIGINT NOT NULL,
    resumed_position BIGINT,
    timed_at TIMESTAMP WITH TIME ZONE,
    timed_resource BIGINT NOT NULL,
    promised_uri TEXT COLLATE "C",
    CONSTRAINT pk_trials PRIMARY KEY (experiment_id, trial_id)
)
--
CREATE INDEX ix_trials_live ON trials (experiment_id) WHERE (stored_checkpoints > 0 OR status = 'running')
--
CREATE TABLE usage (
    experiment_id TEXT COLLATE "C" NOT NULL,
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
           SELECT 1 FROM json_each_text(e.labels) AS one(key, value)
           WHERE strpos(one.key, '=') = 0 AND p.scope = 'label:' || one.key || '=' || one.value
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
           SELECT 1 FROM json_each_text(e.labels) AS one(key, value)
           WHERE strpos(one.key, '=') = 0 AND l.scope = 'label:' || one.key || '=' || one.value
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
       CAST(json_extract_path_text(e.fields, 'resource') AS BIGINT) AS resource,
       CAST(json_extract_path_text(e.fields, 'level') AS BIGINT) AS level,
       CASE json_extract_path_text(e.fields, 'metric')
           WHEN 'NaN' THEN NULL
           WHEN 'Infinity' THEN CAST('Infinity' AS DOUBLE PRECISION)
           WHEN '-Infinity' THEN -CAST('Infinity' AS DOUBLE PRECISION)
           ELSE CAST(json_extract_path_text(e.fields, 'metric') AS DOUBLE PRECISION)
       END AS metric,
       json_extract_path_text(e.fields, 'uri') AS uri,
       CAST(json_extract_path_text(e.fields, 'size_bytes') AS BIGINT) AS size_bytes,
       CAST(json_extract_path_text(e.fields, 'decision_id') AS UUID) AS decision_id,
       (
           SELECT string_agg(sorted.reason, ', ')
           FROM (
               SELECT f.reason FROM flags f
               WHERE f.experiment_id = e.experiment_id AND f.position = e.position
               ORDER BY f.reason
           ) sorted
       ) AS flag,
       e.actor
FROM (
    SELECT events.*, CAST(replace(CAST(data AS TEXT), '\u0000', '\ufffd') AS JSON) AS fields
    FROM events WHERE trial_id IS NOT NULL
) e
--
CREATE VIEW sweep_history AS
SELECT s.sweep_id, s.started_at, s.finished_at,
       CAST(EXTRACT(EPOCH FROM s.finished_at - s.started_at) AS DOUBLE PRECISION) AS duration_seconds,
       CASE WHEN s.finished_at IS NULL THEN 'unfinished' ELSE 'finished' END AS status,
       s.policy, CAST(json_extract_path_text(s.parameters, 'seed') AS BIGINT) AS seed, s.parameters,
       s.decided, s.evicted, s.failed, s.cancelled, s.missing, s.freed_bytes, s.exceeded, s.errors,
       s.software_version, s.actor
FROM sweeps s
--
COMMENT ON COLUMN eviction_history.decision_id IS 'Id of the decision; `ckpt-quota restore` takes it.'
--
COMMENT ON COLUMN eviction_history.sweep_id IS 'The sweep that decided; see sweep_history.'
--
COMMENT ON COLUMN eviction_history.decided_at IS 'When it was decided, by the sweeper''s clock.'
--
COMMENT ON COLUMN eviction_history.experiment_id IS 'The experiment.'
--
COMMENT ON COLUMN eviction_history.trial_id IS 'The trial whose checkpoint it is; for an orphan an id of its own.'
--
COMMENT ON COLUMN eviction_history.uri IS 'Where the checkpoint lies or lay.'
--
COMMENT ON COLUMN eviction_history.store_uri IS 'Root of the store that it lies in, and in whose trash it lies once evicted.'
--
COMMENT ON COLUMN eviction_history.size_bytes IS 'Size of all its files, as listed when it was decided.'
--
COMMENT ON COLUMN eviction_history.manifest_entries IS 'How many files or keys it consisted of.'
--
COMMENT ON COLUMN eviction_history.reason IS 'paused: its trial may be missed least; superseded: its trial has a newer one; stopped, failed or completed: its trial has ended so; orphan: nobody''s.'
--
COMMENT ON COLUMN eviction_history.policy IS 'The policy that chose it; NULL for an orphan, and so are what it chose by and the limit.'
--
COMMENT ON COLUMN eviction_history.policy_version IS 'Which version of it scored this.'
--
COMMENT ON COLUMN eviction_history.parameters IS 'All that the policy depends on, as JSON.'
--
COMMENT ON COLUMN eviction_history.place IS 'Place in the order of eviction of its plan, from 1.'
--
COMMENT ON COLUMN eviction_history.level IS 'Rung level that the trial was paused at.'
--
COMMENT ON COLUMN eviction_history.metric IS 'The value that it was ranked by there; NULL for NaN.'
--
COMMENT ON COLUMN eviction_history.rank IS 'Its rank in the rung, from 1.'
--
COMMENT ON COLUMN eviction_history.rung_length IS 'Entries of the rung, promoted ones included.'
--
COMMENT ON COLUMN eviction_history.promotion_quantile IS 'The rung''s.'
--
COMMENT ON COLUMN eviction_history.estimator IS 'rung or overall: whose counts gave p_better.'
--
COMMENT ON COLUMN eviction_history.estimator_ones IS 'How many of its data were better or equal.'
--
COMMENT ON COLUMN eviction_history.estimator_total IS 'How many data it had.'
--
COMMENT ON COLUMN eviction_history.rank_of_equals IS 'Rank of the best entry with the same metric; only expected-cost asks.'
--
COMMENT ON COLUMN eviction_history.arrivals_better IS 'The chance of each trial that was on its way to the rung to rank better, as a JSON array.'
--
COMMENT ON COLUMN eviction_history.p_better IS 'Probability that an arrival ranks better: its posterior mean; by expected-cost, of later ones.'
--
COMMENT ON COLUMN eviction_history.time_ratio IS 'Time remaining / time elapsed.'
--
COMMENT ON COLUMN eviction_history.resume_probability IS 'Probability that the trial would be resumed.'
--
COMMENT ON COLUMN eviction_history.kept_resource IS 'Resource that the trial would not lose, as an older checkpoint of it is pinned.'
--
COMMENT ON COLUMN eviction_history.score IS 'Expected resource lost; by expected-cost, for each arrival that the place is kept.'
--
COMMENT ON COLUMN eviction_history.seconds_per_resource IS 'Seconds that a unit of resource takes in this experiment.'
--
COMMENT ON COLUMN eviction_history.cost_seconds IS 'Expected seconds of lost work, by which evictions of several experiments are compared.'
--
COMMENT ON COLUMN eviction_history.runner_up_uri IS 'What would have gone next under that limit: the cheapest that was kept.'
--
COMMENT ON COLUMN eviction_history.runner_up_score_seconds IS 'Its score * seconds_per_resource, by which the two were compared.'
--
COMMENT ON COLUMN eviction_history.limit_scope IS 'The limit that called for it.'
--
COMMENT ON COLUMN eviction_history.limit_measure IS 'What that counts: checkpoints, bytes, free_bytes or free_percent.'
--
COMMENT ON COLUMN eviction_history.limit_high IS 'Its high watermark.'
--
COMMENT ON COLUMN eviction_history.limit_low IS 'Its low watermark.'
--
COMMENT ON COLUMN eviction_history.usage IS 'What was counted under that limit then.'
--
COMMENT ON COLUMN eviction_history.usage_after IS 'What would be counted once the whole plan was carried out.'
--
COMMENT ON COLUMN eviction_history.planned_at IS 'The time that the sweep planned for.'
--
COMMENT ON COLUMN eviction_history.state_position IS 'Position of the stream up to which these inputs reflect it.'
--
COMMENT ON COLUMN eviction_history.decided_position IS 'Position of the decision''s own event.'
--
COMMENT ON COLUMN eviction_history.outcome IS 'claimed, trashed, purging, forbidden (the store must not delete it, so it stays in the trash), purged, restored, cancelled or failed.'
--
COMMENT ON COLUMN eviction_history.outcome_at IS 'When it came to that.'
--
COMMENT ON COLUMN eviction_history.freed_bytes IS 'Bytes freed by purging.'
--
COMMENT ON COLUMN eviction_history.failures IS 'How often the store refused a step.'
--
COMMENT ON COLUMN eviction_history.error IS 'What the store said last, or why the claim was given up.'
--
COMMENT ON COLUMN eviction_history.actor IS 'Who ran the sweep, and on which host.'
--
COMMENT ON COLUMN eviction_history.software_version IS 'Version of the software that ran it.'
--
COMMENT ON COLUMN eviction_outcomes.decision_id IS 'Id of the decision; `ckpt-quota restore` takes it.'
--
COMMENT ON COLUMN eviction_outcomes.experiment_id IS 'The experiment.'
--
COMMENT ON COLUMN eviction_outcomes.trial_id IS 'The trial whose checkpoint it is; for an orphan an id of its own.'
--
COMMENT ON COLUMN eviction_outcomes.decided_at IS 'When it was decided, by the sweeper''s clock.'
--
COMMENT ON COLUMN eviction_outcomes.policy IS 'The policy that chose it; NULL for an orphan.'
--
COMMENT ON COLUMN eviction_outcomes.reason IS 'As in eviction_history.'
--
COMMENT ON COLUMN eviction_outcomes.level IS 'Rung level that the trial was paused at.'
--
COMMENT ON COLUMN eviction_outcomes.size_bytes IS 'Size of all its files.'
--
COMMENT ON COLUMN eviction_outcomes.freed_bytes IS 'Bytes freed by purging.'
--
COMMENT ON COLUMN eviction_outcomes.resume_probability IS 'Probability that the trial would be resumed, as it was seen then.'
--
COMMENT ON COLUMN eviction_outcomes.cost_seconds IS 'Expected seconds of lost work, as it was seen then.'
--
COMMENT ON COLUMN eviction_outcomes.outcome IS 'As in eviction_history.'
--
COMMENT ON COLUMN eviction_outcomes.trial_status IS 'What the trial does now; NULL for an orphan.'
--
COMMENT ON COLUMN eviction_outcomes.fate IS 'not carried out; resumed without: its trial was resumed and had to do without it; restored: it came back in time; never needed: its trial or its experiment has ended; not needed so far.'
--
COMMENT ON COLUMN eviction_outcomes.resumes_without IS 'How often its trial was resumed without it.'
--
COMMENT ON COLUMN eviction_outcomes.lost_resource IS 'Units of resource that had to be consumed again for want of it.'
--
COMMENT ON COLUMN eviction_outcomes.lost_seconds IS 'How long that takes at the experiment''s pace then; NULL where nothing was lost, or known.'
--
COMMENT ON COLUMN checkpoint_inventory.experiment_id IS 'The experiment.'
--
COMMENT ON COLUMN checkpoint_inventory.trial_id IS 'The trial.'
--
COMMENT ON COLUMN checkpoint_inventory.uri IS 'Where the checkpoint lies or lay.'
--
COMMENT ON COLUMN checkpoint_inventory.state IS 'stored, claimed, trashed, purging, purged or missing.'
--
COMMENT ON COLUMN checkpoint_inventory.size_bytes IS 'Size of all its files.'
--
COMMENT ON COLUMN checkpoint_inventory.resource IS 'Units of resource that the trial had consumed when it was written.'
--
COMMENT ON COLUMN checkpoint_inventory.saved_at IS 'When it was written, by the sender''s clock.'
--
COMMENT ON COLUMN checkpoint_inventory.saved_position IS 'Position of the event that says so.'
--
COMMENT ON COLUMN checkpoint_inventory.is_newest IS 'Whether no later event says that the trial has saved another one.'
--
COMMENT ON COLUMN checkpoint_inventory.pinned IS 'Whether it is pinned by hand, and so never evicted.'
--
COMMENT ON COLUMN checkpoint_inventory.pinned_scope IS 'A pinned scope that it belongs to, so that it is never evicted; NULL where there is none.'
--
COMMENT ON COLUMN checkpoint_inventory.trial_status IS 'running, paused, stopped, completed or failed.'
--
COMMENT ON COLUMN checkpoint_inventory.level IS 'Rung level that the trial was last paused at.'
--
COMMENT ON COLUMN checkpoint_inventory.store IS 'Root of the store that it lies in; NULL where none does, and then it is never evicted.'
--
COMMENT ON COLUMN checkpoint_inventory.decision_id IS 'The decision that claims it or has taken it.'
--
COMMENT ON COLUMN rung_standings.experiment_id IS 'The experiment.'
--
COMMENT ON COLUMN rung_standings.level IS 'The rung''s level.'
--
COMMENT ON COLUMN rung_standings.rank IS 'The trial''s rank in it, from 1; ties in order of arrival.'
--
COMMENT ON COLUMN rung_standings.trial_id IS 'The trial.'
--
COMMENT ON COLUMN rung_standings.metric IS 'The value that it is ranked by; NULL for NaN, which ranks last.'
--
COMMENT ON COLUMN rung_standings.promoted IS 'Whether it was resumed from here.'
--
COMMENT ON COLUMN rung_standings.has_checkpoint IS 'Whether it is paused here with a stored checkpoint.'
--
COMMENT ON COLUMN rung_standings.trial_status IS 'What the trial does now.'
--
COMMENT ON COLUMN rung_standings.rung_length IS 'Entries of the rung.'
--
COMMENT ON COLUMN rung_standings.promotion_quantile IS 'The fraction of them that may be promoted.'
--
COMMENT ON COLUMN estimator_status.experiment_id IS 'The experiment.'
--
COMMENT ON COLUMN estimator_status.estimator IS 'rung or overall.'
--
COMMENT ON COLUMN estimator_status.level IS 'The rung''s level; NULL for the overall one.'
--
COMMENT ON COLUMN estimator_status.ones IS 'How often a new report was better than a paused trial there, or equal.'
--
COMMENT ON COLUMN estimator_status.total IS 'How often they were compared.'
--
COMMENT ON COLUMN estimator_status.fraction IS 'ones / total; NULL before there are data.'
--
COMMENT ON COLUMN estimator_status.posterior_mean IS 'Mean of p under the default prior of mean 0.33 and size 2.'
--
COMMENT ON COLUMN quota_usage.experiment_id IS 'The experiment.'
--
COMMENT ON COLUMN quota_usage.held_checkpoints IS 'What counts under a limit on its own checkpoints: stored ones of trials that may still run, a running trial at least one.'
--
COMMENT ON COLUMN quota_usage.limit_scope IS 'The limit on its own checkpoints; NULL where there is none. All limits: limit_usage.'
--
COMMENT ON COLUMN quota_usage.limit_high IS 'Its high watermark.'
--
COMMENT ON COLUMN quota_usage.limit_low IS 'Its low watermark.'
--
COMMENT ON COLUMN quota_usage.exceeded IS 'Whether it is above the high watermark.'
--
COMMENT ON COLUMN quota_usage.running_trials IS 'Trials that run.'
--
COMMENT ON COLUMN quota_usage.stored_checkpoints IS 'Checkpoints at their places.'
--
COMMENT ON COLUMN quota_usage.stored_bytes IS 'Their sizes.'
--
COMMENT ON COLUMN quota_usage.claimed_checkpoints IS 'Checkpoints about to be moved to the trash.'
--
COMMENT ON COLUMN quota_usage.claimed_bytes IS 'Their sizes.'
--
COMMENT ON COLUMN quota_usage.trashed_checkpoints IS 'Checkpoints in the trash, still on the disk.'
--
COMMENT ON COLUMN quota_usage.trashed_bytes IS 'Their sizes.'
--
COMMENT ON COLUMN quota_usage.freed_bytes IS 'Bytes freed so far.'
--
COMMENT ON COLUMN limit_shares.scope IS 'What the limit holds for: of one on experiments, the one experiment.'
--
COMMENT ON COLUMN limit_shares.measure IS 'What it counts: checkpoints, bytes, free_bytes or free_percent.'
--
COMMENT ON COLUMN limit_shares.set_for IS 'The scope as it was set.'
--
COMMENT ON COLUMN limit_shares.experiment_id IS 'An experiment that it holds for, or whose checkpoints lie in it.'
--
COMMENT ON COLUMN limit_shares.used IS 'What of that experiment counts: checkpoints, or bytes stored, claimed and in the trash, of limits on free space too.'
--
COMMENT ON COLUMN limit_usage.scope IS 'What the limit holds for; one on experiments is shown for each one that has none of its own.'
--
COMMENT ON COLUMN limit_usage.measure IS 'What it counts: checkpoints, bytes, free_bytes or free_percent.'
--
COMMENT ON COLUMN limit_usage.set_for IS 'The scope as it was set.'
--
COMMENT ON COLUMN limit_usage.high IS 'A sweep starts above this; of free space below it.'
--
COMMENT ON COLUMN limit_usage.low IS 'A sweep stops here; of free space this is what it leaves free.'
--
COMMENT ON COLUMN limit_usage.used IS 'The sum of its limit_shares.'
--
COMMENT ON COLUMN limit_usage.exceeded IS 'Whether that is above the high watermark; NULL of free space, which only the disk tells.'
--
COMMENT ON COLUMN limit_usage.experiments IS 'How many experiments have a share.'
--
COMMENT ON COLUMN limit_usage.set_at IS 'When it was set.'
--
COMMENT ON COLUMN limit_usage.actor IS 'Who set it.'
--
COMMENT ON COLUMN trial_history.experiment_id IS 'The experiment.'
--
COMMENT ON COLUMN trial_history.position IS 'Position in the experiment''s stream.'
--
COMMENT ON COLUMN trial_history.trial_id IS 'The trial.'
--
COMMENT ON COLUMN trial_history.type IS 'What happened.'
--
COMMENT ON COLUMN trial_history.occurred_at IS 'When, by the sender''s clock.'
--
COMMENT ON COLUMN trial_history.recorded_at IS 'When it was stored, by the database''s clock.'
--
COMMENT ON COLUMN trial_history.resource IS 'Units of resource, of a report or a checkpoint.'
--
COMMENT ON COLUMN trial_history.level IS 'Rung level, of a pause, a resume or a decision.'
--
COMMENT ON COLUMN trial_history.metric IS 'The value reported; NULL for NaN.'
--
COMMENT ON COLUMN trial_history.uri IS 'The checkpoint''s location, of events about one.'
--
COMMENT ON COLUMN trial_history.size_bytes IS 'Its size.'
--
COMMENT ON COLUMN trial_history.decision_id IS 'The decision, of events about an eviction.'
--
COMMENT ON COLUMN trial_history.flag IS 'Why the event has no effect, or its time is not used; NULL for most.'
--
COMMENT ON COLUMN trial_history.actor IS 'Who said so.'
--
COMMENT ON COLUMN sweep_history.sweep_id IS 'Id of the sweep.'
--
COMMENT ON COLUMN sweep_history.started_at IS 'When it began.'
--
COMMENT ON COLUMN sweep_history.finished_at IS 'When it ended; NULL while it runs, or where it was killed.'
--
COMMENT ON COLUMN sweep_history.duration_seconds IS 'How long it took.'
--
COMMENT ON COLUMN sweep_history.status IS 'finished or unfinished.'
--
COMMENT ON COLUMN sweep_history.policy IS 'The policy.'
--
COMMENT ON COLUMN sweep_history.seed IS 'What the policy random drew by.'
--
COMMENT ON COLUMN sweep_history.parameters IS 'All that the policy depended on, as JSON.'
--
COMMENT ON COLUMN sweep_history.decided IS 'Evictions decided.'
--
COMMENT ON COLUMN sweep_history.evicted IS 'Checkpoints moved to the trash, those of earlier sweeps'' open claims included.'
--
COMMENT ON COLUMN sweep_history.failed IS 'Steps that a store refused.'
--
COMMENT ON COLUMN sweep_history.cancelled IS 'Evictions given up before the store was asked.'
--
COMMENT ON COLUMN sweep_history.missing IS 'Checkpoints that were not where the log said they were.'
--
COMMENT ON COLUMN sweep_history.freed_bytes IS 'Bytes freed.'
--
COMMENT ON COLUMN sweep_history.exceeded IS 'What was still above a limit, as a JSON list: experiments, and scopes that experiments share.'
--
COMMENT ON COLUMN sweep_history.errors IS 'The first of what stores refused, or checkpoints were left alone for, as a JSON list.'
--
COMMENT ON COLUMN sweep_history.software_version IS 'Version of the software that ran it.'
--
COMMENT ON COLUMN sweep_history.actor IS 'Who ran it.'

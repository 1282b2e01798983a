-- name: claim (writes)
-- Claim an artifact without a row, or a failed one that may be tried again.
INSERT INTO artifact (code_hash, prep_hash, state, path, host_id, token, claimed_at, deadline,
    created_at, label, kind)
VALUES (:code, :prep, 'preparing', :my_path, :my_host, :my_token, :now, (:now +
    coalesce(:prepare_timeout, (SELECT setting.value FROM setting WHERE setting.name =
    'prepare_timeout'), 1800000000)), :now, :label, :made_by)
ON CONFLICT (code_hash, prep_hash) DO UPDATE
SET state = 'preparing', path = :my_path, num_failures = CASE WHEN (artifact.error_kind IN
    ('host_died', 'deadline') AND artifact.last_time_failed <= :now - 86400000000) THEN 0 ELSE
    artifact.num_failures END, host_id = :my_host, token = :my_token, claimed_at = :now, deadline =
    (:now + coalesce(:prepare_timeout, (SELECT setting.value FROM setting WHERE setting.name =
    'prepare_timeout'), 1800000000)), label = coalesce(:label, artifact.label), kind =
    coalesce(:made_by, artifact.kind)
WHERE artifact.state = 'failed'
  AND (:anyway OR artifact.retry_at IS NOT NULL AND (artifact.retry_at <= :now OR
    artifact.last_time_failed > :now + 60000000 OR artifact.num_failures = 0))
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: take over (writes)
-- Take over a claim whose host died or is late, and count that as a failure.
UPDATE artifact
SET path=:my_path, num_failures=CASE WHEN (artifact.error_kind IN ('host_died', 'deadline') AND
    artifact.last_time_failed <= :now - 86400000000) THEN 1 ELSE artifact.num_failures + 1 END,
    last_time_failed=:now, error=:error, error_kind=:kind, retry_at=:now, host_id=:my_host,
    token=:my_token, claimed_at=:now, deadline=(:now + coalesce(:prepare_timeout, (SELECT
    setting.value FROM setting WHERE setting.name = 'prepare_timeout'), 1800000000)),
    label=coalesce(:label, artifact.label), kind=coalesce(:made_by, artifact.kind)
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.token = :seen_token
  AND artifact.deadline = :seen_deadline
  AND CASE WHEN (artifact.error_kind IN ('host_died', 'deadline') AND artifact.last_time_failed <=
    :now - 86400000000) THEN 1 ELSE artifact.num_failures + 1 END <= coalesce(:max_retries, (SELECT
    setting.value FROM setting WHERE setting.name = 'max_retries'), 5)
  AND artifact.state = 'preparing'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: reap (writes)
-- End a claim whose host died or is late, and record a failure.
UPDATE artifact
SET state='failed', path=NULL, size=NULL, checksum=NULL, num_failures=(artifact.num_failures + 1),
    last_time_failed=:now, error=:error, error_kind=:kind, retry_at=CASE WHEN (artifact.num_failures
    + 1 <= coalesce(:max_retries, (SELECT setting.value FROM setting WHERE setting.name =
    'max_retries'), 5)) THEN :now END, host_id=NULL, token=NULL, claimed_at=NULL, deadline=NULL
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.token = :seen_token
  AND artifact.deadline = :seen_deadline
  AND artifact.state = 'preparing'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: reap host (writes)
-- End all claims of a dead host, and record a failure for each.
UPDATE artifact
SET state='failed', path=NULL, size=NULL, checksum=NULL, num_failures=(artifact.num_failures + 1),
    last_time_failed=:now, error=:error, error_kind=:kind, retry_at=CASE WHEN (artifact.num_failures
    + 1 <= coalesce(:max_retries, (SELECT setting.value FROM setting WHERE setting.name =
    'max_retries'), 5)) THEN :now END, host_id=NULL, token=NULL, claimed_at=NULL, deadline=NULL
WHERE artifact.host_id = :seen_host
  AND artifact.state = 'preparing'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: publish (writes)
-- End a claim: the artifact is prepared, and its file is in place.
UPDATE artifact
SET state='prepared', size=:size, checksum=:checksum, last_time_needed=:now, num_failures=0,
    last_time_failed=NULL, error=NULL, error_kind=NULL, retry_at=NULL, host_id=NULL, token=NULL,
    claimed_at=NULL, deadline=NULL, prepare_seconds=:seconds
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.token = :my_token
  AND artifact.state = 'preparing'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: fail (writes)
-- End a claim: the artifact failed.
UPDATE artifact
SET state='failed', path=NULL, size=NULL, checksum=NULL, num_failures=(artifact.num_failures + 1),
    last_time_failed=:now, error=:error, error_kind=:kind, retry_at=CASE WHEN (:retryable AND
    artifact.num_failures + 1 <= coalesce(:max_retries, (SELECT setting.value FROM setting WHERE
    setting.name = 'max_retries'), 5)) THEN :now + coalesce(:retry_cooldown, (SELECT setting.value
    FROM setting WHERE setting.name = 'retry_cooldown'), 900000000) END, host_id=NULL, token=NULL,
    claimed_at=NULL, deadline=NULL
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.token = :my_token
  AND artifact.state = 'preparing'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: release (writes)
-- Release the claim of an artifact that never failed: delete its row.
DELETE
FROM artifact
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.token = :my_token
  AND artifact.last_time_failed IS NULL
  AND artifact.state = 'preparing'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: restore (writes)
-- Release the claim of an artifact that failed before: restore that failure.
UPDATE artifact
SET state='failed', path=NULL, size=NULL, checksum=NULL, host_id=NULL, token=NULL, claimed_at=NULL,
    deadline=NULL
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.token = :my_token
  AND artifact.last_time_failed IS NOT NULL
  AND artifact.state = 'preparing'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: extend (writes)
-- Move the deadline of a claim.
UPDATE artifact
SET claimed_at=min(max(artifact.claimed_at, :dated), :now), deadline=(:now + :prepare_timeout)
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.token = :my_token
  AND artifact.state = 'preparing'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: redate (writes)
-- Restart the deadline of a claim that was made before the clock was set back.
UPDATE artifact
SET claimed_at=:now, deadline=((:now + artifact.deadline) - artifact.claimed_at)
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.token = :seen_token
  AND artifact.deadline = :seen_deadline
  AND artifact.claimed_at > :now + 60000000
  AND artifact.deadline > artifact.claimed_at
  AND artifact.state = 'preparing'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: need (writes)
-- Note that a prepared artifact is needed now.
UPDATE artifact
SET last_time_needed=:now
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.path = :seen_path
  AND artifact.state = 'prepared'
RETURNING (SELECT setting.value FROM setting WHERE name = 'min_stale_time') AS anon_1;

-- name: prune (writes, durable)
-- Delete the least recently needed artifacts until the rest is within the limit.
DELETE
FROM artifact
WHERE artifact.id IN (SELECT walk.id FROM (SELECT batch.id AS id, sum(batch.size) OVER (ORDER BY
    batch.turn, batch.time, batch.id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - batch.size
    AS freed FROM (SELECT both.id AS id, both.size AS size, both.time AS time, both.turn AS turn
    FROM (SELECT ahead.id AS id, ahead.size AS size, ahead.time AS time, ahead.turn AS turn FROM
    (SELECT artifact.id AS id, artifact.size AS size, artifact.last_time_needed AS time, 0 AS turn
    FROM artifact WHERE artifact.state = 'prepared' AND artifact.id != :spared AND
    artifact.last_time_needed > :now + 60000000 ORDER BY artifact.last_time_needed, artifact.id
    LIMIT :most OFFSET 0) AS ahead UNION ALL SELECT behind.id AS id, behind.size AS size,
    behind.time AS time, behind.turn AS turn FROM (SELECT artifact.id AS id, artifact.size AS size,
    artifact.last_time_needed AS time, 1 AS turn FROM artifact WHERE artifact.state = 'prepared' AND
    artifact.id != :spared AND artifact.last_time_needed <= min(:horizon, :now + 60000000) ORDER BY
    artifact.last_time_needed, artifact.id LIMIT :most OFFSET 0) AS behind) AS both ORDER BY
    both.turn, both.time, both.id LIMIT :most OFFSET 0) AS batch) AS walk WHERE (SELECT
    usage.prepared_bytes FROM usage) - walk.freed > :bytes_limit)
  AND artifact.state = 'prepared'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: forget (writes)
-- Delete failures that are too old, too many or too long, the oldest first.
DELETE
FROM artifact
WHERE artifact.id IN (SELECT walk.id FROM (SELECT both.id AS id, both.time AS time, sum(both.size)
    OVER (ORDER BY both.turn, both.time, both.id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) -
    both.size AS freed, sum(1) OVER (ORDER BY both.turn, both.time, both.id ROWS BETWEEN UNBOUNDED
    PRECEDING AND CURRENT ROW) - 1 AS gone FROM (SELECT ahead.id AS id, ahead.size AS size,
    ahead.time AS time, ahead.turn AS turn FROM (SELECT artifact.id AS id,
    length(CAST(artifact.error AS BLOB)) AS size, artifact.last_time_failed AS time, 0 AS turn FROM
    artifact WHERE artifact.state = 'failed' AND artifact.id != :spared AND
    artifact.last_time_failed > :now + 60000000 ORDER BY artifact.last_time_failed, artifact.id
    LIMIT :most OFFSET 0) AS ahead UNION ALL SELECT behind.id AS id, behind.size AS size,
    behind.time AS time, behind.turn AS turn FROM (SELECT artifact.id AS id,
    length(CAST(artifact.error AS BLOB)) AS size, artifact.last_time_failed AS time, 1 AS turn FROM
    artifact WHERE artifact.state = 'failed' AND artifact.id != :spared AND
    artifact.last_time_failed <= :now + 60000000 ORDER BY artifact.last_time_failed, artifact.id
    LIMIT :most OFFSET 0) AS behind) AS both) AS walk WHERE (SELECT failure_usage.failed_count FROM
    failure_usage) - walk.gone > :count_limit OR (SELECT failure_usage.failed_bytes FROM
    failure_usage) - walk.freed > :bytes_limit OR walk.time <= :horizon)
  AND artifact.state = 'failed'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: remove (writes, durable)
-- Delete an artifact by hand.
DELETE
FROM artifact
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.state IN ('prepared', 'failed')
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: discard (writes, durable)
-- Delete the row of a file that is missing or damaged.
DELETE
FROM artifact
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.path = :seen_path
  AND artifact.state = 'prepared'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: retry (writes)
-- Allow another try of a failed artifact at once, however often it failed.
UPDATE artifact
SET num_failures=0, retry_at=:now
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.state = 'failed'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: read
-- Read one artifact, and who prepares it.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind, (SELECT host.pid FROM host WHERE
    host.id = artifact.host_id) AS anon_1, (SELECT host.hostname FROM host WHERE host.id =
    artifact.host_id) AS anon_2
FROM artifact
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep;

-- name: read several
-- Read the rows that a handle waits for, by a JSON array of their row ids.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind, (SELECT host.pid FROM host WHERE
    host.id = artifact.host_id) AS anon_1, (SELECT host.hostname FROM host WHERE host.id =
    artifact.host_id) AS anon_2
FROM artifact
WHERE artifact.id IN (SELECT value FROM json_each(:ids));

-- name: prepared page
-- List a page of the prepared, most recently needed first, after a key.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.state = 'prepared'
  AND (:only IS NULL OR artifact.kind = :only)
  AND artifact.last_time_needed <= :before
  AND (artifact.last_time_needed < :before OR artifact.id < :before_id)
ORDER BY artifact.last_time_needed DESC, artifact.id DESC
LIMIT :most OFFSET 0;

-- name: all preparing
-- List those being prepared, the last claim first; they are as few as the hosts at work.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind, (SELECT host.pid FROM host WHERE
    host.id = artifact.host_id) AS anon_1, (SELECT host.hostname FROM host WHERE host.id =
    artifact.host_id) AS anon_2
FROM artifact
WHERE artifact.state = 'preparing'
  AND (:only IS NULL OR artifact.kind = :only)
ORDER BY artifact.claimed_at DESC;

-- name: failed page
-- List a page of the failed, the last failure first, after a key.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.state = 'failed'
  AND (:only IS NULL OR artifact.kind = :only)
  AND artifact.last_time_failed <= :before
  AND (artifact.last_time_failed < :before OR artifact.id < :before_id)
ORDER BY artifact.last_time_failed DESC, artifact.id DESC
LIMIT :most OFFSET 0;

-- name: by prefix
-- Find artifacts by the first digits of their hashes; `code_end` bounds them from above.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.code_hash >= :code_start
  AND artifact.code_hash < :code_end
  AND substr(artifact.prep_hash, 1, length(:prep_start)) = :prep_start
  AND length(hex(artifact.code_hash || artifact.prep_hash)) = 256
LIMIT 2 OFFSET 0;

-- name: claims of
-- Read the claims of one host.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.state = 'preparing'
  AND artifact.host_id = :seen_host;

-- name: claimants
-- Read which hosts hold claims.
SELECT DISTINCT artifact.host_id
FROM artifact
WHERE artifact.state = 'preparing';

-- name: paths page
-- Read which files the rows refer to, a page after a row id.
SELECT artifact.id, artifact.state, artifact.path
FROM artifact
WHERE artifact.id > :after_id
  AND artifact.path IS NOT NULL
ORDER BY artifact.id
LIMIT :most OFFSET 0;

-- name: whole page
-- Read a page of the prepared after a row id, to compare them with their files.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.id > :after_id
  AND artifact.state = 'prepared'
ORDER BY artifact.id
LIMIT :most OFFSET 0;

-- name: usage
-- Read how much is prepared, the settings that bound it, and when it was last maintained.
SELECT usage.prepared_count, usage.prepared_bytes, (SELECT setting.value FROM setting WHERE
    setting.name = 'cache_limit') AS anon_1, (SELECT setting.value FROM setting WHERE setting.name =
    'min_stale_time') AS anon_2, (SELECT setting.value FROM setting WHERE setting.name =
    'hard_limit') AS anon_3, (SELECT maintenance.last_done FROM maintenance) AS anon_4
FROM usage;

-- name: counts
-- Count the preparing, the failed, and the bytes of their errors.
SELECT (SELECT count(*) AS count_1 FROM artifact WHERE artifact.state = 'preparing') AS anon_1,
    failure_usage.failed_count, failure_usage.failed_bytes
FROM failure_usage;

-- name: sums
-- Count and sum the prepared anew, beside what the triggers kept.
SELECT usage.prepared_count, usage.prepared_bytes, (SELECT count(*) AS count_1 FROM artifact WHERE
    artifact.state = 'prepared') AS anon_1, (SELECT coalesce(sum(artifact.size), 0) AS coalesce_1
    FROM artifact WHERE artifact.state = 'prepared') AS anon_2
FROM usage;

-- name: note use (writes)
-- Record a last use that could not be written at the time, unless a later one is known.
UPDATE artifact
SET last_time_needed=:at
WHERE artifact.code_hash = :code
  AND artifact.prep_hash = :prep
  AND artifact.path = :seen_path
  AND artifact.state = 'prepared'
  AND (artifact.last_time_needed < :at OR artifact.last_time_needed > :now + 60000000);

-- name: correct usage (writes)
-- Set the usage to the real count and sum of the prepared.
UPDATE usage SET (prepared_count, prepared_bytes) =
  (SELECT count(*), coalesce(sum(size), 0) FROM artifact WHERE state = 'prepared');

-- name: doomed of kind
-- Read which artifacts of a kind pruning that kind would delete, in that order.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.id IN (SELECT walk.id FROM (SELECT batch.id AS id, sum(batch.size) OVER (ORDER BY
    batch.turn, batch.time, batch.id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - batch.size
    AS freed FROM (SELECT both.id AS id, both.size AS size, both.time AS time, both.turn AS turn
    FROM (SELECT ahead.id AS id, ahead.size AS size, ahead.time AS time, ahead.turn AS turn FROM
    (SELECT artifact.id AS id, artifact.size AS size, artifact.last_time_needed AS time, 0 AS turn
    FROM artifact WHERE artifact.state = 'prepared' AND artifact.kind = :only AND
    artifact.last_time_needed > :now + 60000000 ORDER BY artifact.last_time_needed, artifact.id
    LIMIT :most OFFSET 0) AS ahead UNION ALL SELECT behind.id AS id, behind.size AS size,
    behind.time AS time, behind.turn AS turn FROM (SELECT artifact.id AS id, artifact.size AS size,
    artifact.last_time_needed AS time, 1 AS turn FROM artifact WHERE artifact.state = 'prepared' AND
    artifact.kind = :only AND artifact.last_time_needed <= min(:horizon, :now + 60000000) ORDER BY
    artifact.last_time_needed, artifact.id LIMIT :most OFFSET 0) AS behind) AS both ORDER BY
    both.turn, both.time, both.id LIMIT :most OFFSET 0) AS batch) AS walk WHERE (SELECT
    sum(artifact.size) AS sum_1 FROM artifact WHERE artifact.state = 'prepared' AND artifact.kind =
    :only) - walk.freed > :bytes_limit)
  AND artifact.state = 'prepared'
ORDER BY artifact.last_time_needed > :now + 60000000 DESC, artifact.last_time_needed, artifact.id;

-- name: prune kind (writes, durable)
-- Delete the least recently needed artifacts of a kind until its rest is within the limit.
DELETE
FROM artifact
WHERE artifact.id IN (SELECT walk.id FROM (SELECT batch.id AS id, sum(batch.size) OVER (ORDER BY
    batch.turn, batch.time, batch.id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - batch.size
    AS freed FROM (SELECT both.id AS id, both.size AS size, both.time AS time, both.turn AS turn
    FROM (SELECT ahead.id AS id, ahead.size AS size, ahead.time AS time, ahead.turn AS turn FROM
    (SELECT artifact.id AS id, artifact.size AS size, artifact.last_time_needed AS time, 0 AS turn
    FROM artifact WHERE artifact.state = 'prepared' AND artifact.kind = :only AND
    artifact.last_time_needed > :now + 60000000 ORDER BY artifact.last_time_needed, artifact.id
    LIMIT :most OFFSET 0) AS ahead UNION ALL SELECT behind.id AS id, behind.size AS size,
    behind.time AS time, behind.turn AS turn FROM (SELECT artifact.id AS id, artifact.size AS size,
    artifact.last_time_needed AS time, 1 AS turn FROM artifact WHERE artifact.state = 'prepared' AND
    artifact.kind = :only AND artifact.last_time_needed <= min(:horizon, :now + 60000000) ORDER BY
    artifact.last_time_needed, artifact.id LIMIT :most OFFSET 0) AS behind) AS both ORDER BY
    both.turn, both.time, both.id LIMIT :most OFFSET 0) AS batch) AS walk WHERE (SELECT
    sum(artifact.size) AS sum_1 FROM artifact WHERE artifact.state = 'prepared' AND artifact.kind =
    :only) - walk.freed > :bytes_limit)
  AND artifact.state = 'prepared'
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: kinds
-- Count and sum what each kind holds, the largest first.
SELECT artifact.kind, count(*) FILTER (WHERE artifact.state = 'prepared') AS anon_1,
    coalesce(sum(artifact.size), 0) AS coalesce_1, count(*) FILTER (WHERE artifact.state = 'failed')
    AS anon_2
FROM artifact
WHERE artifact.kind IS NOT NULL
GROUP BY artifact.kind
ORDER BY sum(artifact.size) DESC
LIMIT :most OFFSET 0;

-- name: removable
-- Read some of the artifacts that may be removed.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.state IN ('prepared', 'failed')
LIMIT :most OFFSET 0;

-- name: removable of code
-- Read some of the artifacts of one code, and of one kind if that is given.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.code_hash = :code
  AND (:only IS NULL OR artifact.kind = :only)
  AND artifact.state IN ('prepared', 'failed')
LIMIT :most OFFSET 0;

-- name: removable of kind
-- Read some of the artifacts of one kind.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.kind = :only
  AND artifact.state IN ('prepared', 'failed')
LIMIT :most OFFSET 0;

-- name: remove several (writes, durable)
-- Delete artifacts by hand, by a JSON array of row ids, if they are of the code and kind.
DELETE
FROM artifact
WHERE artifact.id IN (SELECT value FROM json_each(:ids))
  AND artifact.state IN ('prepared', 'failed')
  AND (:code IS NULL OR artifact.code_hash = :code)
  AND (:only IS NULL OR artifact.kind = :only)
RETURNING id, code_hash, prep_hash, state, path, size, checksum, last_time_needed, num_failures,
    last_time_failed, error, error_kind, retry_at, host_id, token, claimed_at, deadline, created_at,
    prepare_seconds, label, kind;

-- name: of code page
-- List a page of the artifacts of one code, in the order of their parameters' hashes.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind, (SELECT host.pid FROM host WHERE
    host.id = artifact.host_id) AS anon_1, (SELECT host.hostname FROM host WHERE host.id =
    artifact.host_id) AS anon_2
FROM artifact
WHERE artifact.code_hash = :code
  AND artifact.prep_hash > :after_prep
  AND (:state IS NULL OR artifact.state = :state)
  AND (:only IS NULL OR artifact.kind = :only)
ORDER BY artifact.prep_hash
LIMIT :most OFFSET 0;

-- name: doomed
-- Read which artifacts pruning would delete, in that order.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.id IN (SELECT walk.id FROM (SELECT batch.id AS id, sum(batch.size) OVER (ORDER BY
    batch.turn, batch.time, batch.id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - batch.size
    AS freed FROM (SELECT both.id AS id, both.size AS size, both.time AS time, both.turn AS turn
    FROM (SELECT ahead.id AS id, ahead.size AS size, ahead.time AS time, ahead.turn AS turn FROM
    (SELECT artifact.id AS id, artifact.size AS size, artifact.last_time_needed AS time, 0 AS turn
    FROM artifact WHERE artifact.state = 'prepared' AND artifact.id != :spared AND
    artifact.last_time_needed > :now + 60000000 ORDER BY artifact.last_time_needed, artifact.id
    LIMIT :most OFFSET 0) AS ahead UNION ALL SELECT behind.id AS id, behind.size AS size,
    behind.time AS time, behind.turn AS turn FROM (SELECT artifact.id AS id, artifact.size AS size,
    artifact.last_time_needed AS time, 1 AS turn FROM artifact WHERE artifact.state = 'prepared' AND
    artifact.id != :spared AND artifact.last_time_needed <= min(:horizon, :now + 60000000) ORDER BY
    artifact.last_time_needed, artifact.id LIMIT :most OFFSET 0) AS behind) AS both ORDER BY
    both.turn, both.time, both.id LIMIT :most OFFSET 0) AS batch) AS walk WHERE (SELECT
    usage.prepared_bytes FROM usage) - walk.freed > :bytes_limit)
  AND artifact.state = 'prepared'
ORDER BY artifact.last_time_needed > :now + 60000000 DESC, artifact.last_time_needed, artifact.id;

-- name: settings
-- Read the settings.
SELECT setting.name, setting.value
FROM setting;

-- name: configure (writes)
-- Change settings, all or none, by a JSON object.
INSERT INTO setting (name, value)
SELECT anon_1."key", anon_1.value
FROM json_each(:changes) AS anon_1
WHERE true
ON CONFLICT (name) DO UPDATE
SET value = excluded.value
RETURNING name;

-- name: longest preparation
-- Read the longest time that this code took to prepare, with any parameters.
SELECT max(artifact.prepare_seconds) AS max_1
FROM artifact
WHERE artifact.code_hash = :code;

-- name: oldest need
-- Read when the prepared artifact that was needed longest ago was needed.
SELECT min(artifact.last_time_needed) AS min_1
FROM artifact
WHERE artifact.state = 'prepared';

-- name: working set
-- Count and sum the artifacts needed since a time: what the cache must hold.
SELECT count(*) AS count_1, coalesce(sum(artifact.size), 0) AS coalesce_1
FROM artifact
WHERE artifact.state = 'prepared'
  AND artifact.last_time_needed > :since
  AND artifact.last_time_needed <= :now + 60000000;

-- name: enter host (writes)
-- Add an open handle, whose lock is held already. Adding it twice does no harm.
INSERT INTO host (id, pid, hostname, command, opened_at, version)
VALUES (:my_host, :my_pid, :my_hostname, :my_command, :now, :my_version)
ON CONFLICT DO NOTHING;

-- name: hosts
-- Read the hosts.
SELECT host.id, host.pid, host.hostname, host.command, host.opened_at, host.version
FROM host
ORDER BY host.opened_at, host.id;

-- name: leave host (writes)
-- Remove a host that has no claims left.
DELETE
FROM host
WHERE host.id = :seen_host
  AND NOT (EXISTS (SELECT artifact.id FROM artifact WHERE artifact.state = 'preparing' AND
    artifact.host_id = :seen_host))
RETURNING id;

-- name: maintain (writes)
-- Claim the maintenance if it is due: one process wins, and does it.
UPDATE maintenance
SET last_done=:now
WHERE maintenance.last_done <= :due_before OR maintenance.last_done > :now + 60000000
RETURNING last_done;

-- name: identity
-- Read which cache this is.
SELECT cache.uuid, cache.oldest_version
FROM cache;

-- name: failure sums
-- Count the failed and the bytes of their errors again, beside what the triggers counted.
SELECT failure_usage.failed_count, failure_usage.failed_bytes, (SELECT count(*) AS count_1 FROM
    artifact WHERE artifact.state = 'failed') AS anon_1, (SELECT
    coalesce(sum(length(CAST(artifact.error AS BLOB))), 0) AS coalesce_1 FROM artifact WHERE
    artifact.state = 'failed') AS anon_2
FROM failure_usage;

-- name: correct failure usage (writes)
-- Set the failure usage to the real count and sum of the failed.
UPDATE failure_usage SET (failed_count, failed_bytes) =
  (SELECT count(*), coalesce(sum(length(CAST(error AS BLOB))), 0)
   FROM artifact WHERE state = 'failed');

-- name: failure usage
-- Read how many failures are kept, what bounds them, and when the oldest was.
SELECT failure_usage.failed_count, failure_usage.failed_bytes, (SELECT setting.value FROM setting
    WHERE setting.name = 'failed_max_count') AS anon_1, (SELECT setting.value FROM setting WHERE
    setting.name = 'failed_max_bytes') AS anon_2, (SELECT setting.value FROM setting WHERE
    setting.name = 'failed_max_age') AS anon_3, (SELECT min(artifact.last_time_failed) AS min_1 FROM
    artifact WHERE artifact.state = 'failed') AS anon_4
FROM failure_usage;

-- name: failures
-- Count the failed by kind, the most frequent first.
SELECT artifact.error_kind, count(*) AS count_1
FROM artifact
WHERE artifact.state = 'failed'
GROUP BY artifact.error_kind
ORDER BY count(*) DESC
LIMIT :most OFFSET 0;

-- name: failed as
-- Read some of the artifacts that failed in one way, those given up first.
SELECT artifact.id, artifact.code_hash, artifact.prep_hash, artifact.state, artifact.path,
    artifact.size, artifact.checksum, artifact.last_time_needed, artifact.num_failures,
    artifact.last_time_failed, artifact.error, artifact.error_kind, artifact.retry_at,
    artifact.host_id, artifact.token, artifact.claimed_at, artifact.deadline, artifact.created_at,
    artifact.prepare_seconds, artifact.label, artifact.kind
FROM artifact
WHERE artifact.state = 'failed'
  AND artifact.error_kind = :kind
ORDER BY artifact.retry_at IS NOT NULL, artifact.last_time_failed DESC
LIMIT :most OFFSET 0;

-- name: record (writes)
-- Write into the journal how artifacts ended, from a JSON array of rows.
INSERT INTO history (at, event, reason, host_id,
                     code_hash, prep_hash, label, size, prepare_seconds, last_time_needed)
SELECT :now, :event, :reason, :my_host,
  json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
  json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
FROM json_each(:rows);

-- name: history
-- Read what happened to an artifact, the oldest first; walks the journal, which is bounded.
SELECT history.id, history.at, history.event, history.reason, history.code_hash, history.prep_hash,
    history.label, history.host_id, history.size, history.prepare_seconds, history.last_time_needed,
    history.evicted_for, history.error, host_history.pid, host_history.hostname,
    host_history.command
FROM history
LEFT OUTER JOIN host_history
ON history.host_id = host_history.id
WHERE history.code_hash = :code
  AND history.prep_hash = :prep
ORDER BY history.at, history.id;

-- name: events page
-- Read a page of the journal before a row id, the last written first.
SELECT history.id, history.at, history.event, history.reason, history.code_hash, history.prep_hash,
    history.label, history.host_id, history.size, history.prepare_seconds, history.last_time_needed,
    history.evicted_for, history.error, host_history.pid, host_history.hostname,
    host_history.command
FROM history
LEFT OUTER JOIN host_history
ON history.host_id = host_history.id
WHERE history.id < :before
ORDER BY history.id DESC
LIMIT :most OFFSET 0;

-- name: past by prefix
-- Find artifacts that the journal knows by the first digits of their hashes.
SELECT DISTINCT history.code_hash, history.prep_hash
FROM history
WHERE history.code_hash >= :code_start
  AND history.code_hash < :code_end
  AND substr(history.prep_hash, 1, length(:prep_start)) = :prep_start
LIMIT 2 OFFSET 0;

-- name: rebuilt
-- Count and time what was prepared again soon after it was pruned, since a time.
SELECT count(*) AS count_1, coalesce(sum(history.prepare_seconds), 0.0) AS coalesce_1
FROM history
WHERE history.evicted_for < :soon
  AND history.at > :since
  AND history.at <= :now + 60000000;

-- name: tell (writes)
-- Add what a handle counted since its last call to the counters of the cache.
UPDATE counter SET value = value +
  CASE name WHEN 'hits' THEN :hits WHEN 'misses' THEN :misses ELSE :coalesced END
WHERE name IN ('hits', 'misses', 'coalesced');

-- name: totals
-- Read the counters of the cache.
SELECT counter.name, counter.value
FROM counter;

-- name: integrity
-- Let SQLite check its own file.
PRAGMA integrity_check(20);

-- name: journal mode
-- Read the journal mode of the database.
PRAGMA journal_mode;

-- name: pages
-- Read the size of the database, and how much of it is free to be used again.
SELECT page_count * page_size, freelist_count * page_size
FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size();

-- name: revision
-- Read the revision of the schema.
SELECT version_num FROM alembic_version;

-- name: ahead
-- Count the times that were written before the clock was set back.
SELECT (SELECT count(*) AS count_1 FROM artifact WHERE artifact.state = 'prepared' AND
    artifact.last_time_needed > :now + 60000000) AS anon_1, (SELECT count(*) AS count_2 FROM
    artifact WHERE artifact.state = 'failed' AND artifact.last_time_failed > :now + 60000000) AS
    anon_2, (SELECT count(*) AS count_3 FROM artifact WHERE artifact.state = 'preparing' AND
    artifact.claimed_at > :now + 60000000) AS anon_3;

-- name: aliens
-- Find the rows with an invalid hash or state: no version of registry wrote them.
SELECT id FROM artifact WHERE (length(CAST(code_hash AS BLOB)) <> 64 OR code_hash GLOB '*[^0-9a-f]*'
 OR length(CAST(prep_hash AS BLOB)) <> 64 OR prep_hash GLOB '*[^0-9a-f]*'
 OR state NOT IN ('preparing', 'prepared', 'failed'));

-- name: drop aliens (writes, durable)
-- Delete such rows, by a JSON array of their row ids; their files are garbage then.
DELETE FROM artifact
WHERE id IN (SELECT value FROM json_each(:ids))
  AND (length(CAST(code_hash AS BLOB)) <> 64 OR code_hash GLOB '*[^0-9a-f]*'
 OR length(CAST(prep_hash AS BLOB)) <> 64 OR prep_hash GLOB '*[^0-9a-f]*'
 OR state NOT IN ('preparing', 'prepared', 'failed'));

-- Write a lone commit of one event, by far the most frequent one, in one statement.
--
-- It gives no row if it has not written: the caller then calls `append`, which waits for the
-- stream, and says what is wrong. The snapshot of this statement is older than its locks, so it
-- waits for none, and the stream may still have grown since. Then the version that it takes exists
-- already, and nothing is written; if it does not exist, no event of the stream is newer than what
-- the snapshot shows.
--
-- A row of the INSERT needs the row of `locked`, so no position is taken before the locks are
-- held.
WITH locked AS MATERIALIZED (
    SELECT {schema}.check_place({place}),
        pg_catalog.pg_advisory_xact_lock_shared(
            '{schema}.positions'::pg_catalog.regclass::pg_catalog.oid::integer,
            (
                CASE WHEN is_called THEN last_value ELSE last_value OPERATOR(pg_catalog.-) 1 END
            )::bit(32)::integer
        ),
        -- In this order, as in `append`: what has locked a stream waits for no other lock.
        CASE WHEN pg_catalog.pg_try_advisory_xact_lock_shared({schema}.lock_key(0))
            THEN pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(
                $1::pg_catalog.text,
                '{schema}.positions'::pg_catalog.regclass::pg_catalog.oid::integer
            )) END AS is_free
    FROM {schema}.positions
)
INSERT INTO {schema}.events
SELECT pg_catalog.nextval('{schema}.positions'), $1, h.head OPERATOR(pg_catalog.+) 1,
       $3::pg_catalog.text, $4::pg_catalog.text::pg_catalog.json, $5::pg_catalog.bytea,
       $6::pg_catalog.text::pg_catalog.json, $7::pg_catalog.uuid,
       greatest(pg_catalog.clock_timestamp(), h.recorded_at),
       coalesce(pg_catalog.octet_length($4), pg_catalog.octet_length($5))
           OPERATOR(pg_catalog.+) pg_catalog.octet_length($6)
FROM locked, (
    SELECT coalesce(newest.version, 0), newest.recorded_at
    FROM (VALUES ($1)) AS s(stream)
    LEFT JOIN LATERAL (
        SELECT e.version, e.recorded_at FROM {schema}.events e
        WHERE e.stream OPERATOR(pg_catalog.=) s.stream ORDER BY e.version DESC LIMIT 1
    ) AS newest ON true
) AS h(head, recorded_at)
WHERE locked.is_free
    AND ($2::bigint OPERATOR(pg_catalog.=) -1 OR $2 OPERATOR(pg_catalog.=) h.head
        OR ($2 OPERATOR(pg_catalog.=) -2 AND h.head OPERATOR(pg_catalog.>) 0))
    AND pg_catalog.current_setting('transaction_isolation')
        OPERATOR(pg_catalog.=) 'read committed'
ON CONFLICT (stream, version) DO NOTHING
RETURNING events.version OPERATOR(pg_catalog.-) 1, events.position,
    (EXTRACT(epoch FROM events.recorded_at) OPERATOR(pg_catalog.*) 1000000)::bigint

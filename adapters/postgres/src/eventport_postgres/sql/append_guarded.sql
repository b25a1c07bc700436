-- Write a batch of commits that has tags or guards. It takes what `append` does, and:
--
-- Locks. A guard on a query has to keep events away that would match it, and events have to wait
-- for such a guard if they have a tag in common with it. So an event takes its tags, shared;
-- a guard takes, exclusively, one tag of each match of its query, or `everything`, which each append
-- takes, shared. There are few keys for all tags, so that any number of them is few locks; a tag
-- that shares its key with another one only waits for it.
--
-- No two commits of a batch may depend on each other: none may have a guard that an earlier one of
-- the batch could break.
CREATE OR REPLACE FUNCTION {schema}.append_guarded(
    streams        pg_catalog.text[],
    write_commits  integer[],
    write_streams  integer[],
    write_expected bigint[],
    write_sizes    integer[],
    event_streams  pg_catalog.text[],
    event_writes   integer[],
    event_offsets  integer[],
    event_types    pg_catalog.text[],
    event_data     pg_catalog.text[],
    event_binary   pg_catalog.bytea[],
    event_metadata pg_catalog.text[],
    event_ids      pg_catalog.uuid[],
    place          bigint,
    event_times    bigint[],
    event_tags     pg_catalog.text[],
    lock_keys      integer[],       -- in order
    lock_exclusive boolean[],
    guards         pg_catalog.text, -- a JSON array of objects: the commit and its number, and either
                                    -- stream and expected, or matches, floor and seen
    OUT outcomes   integer[],
    OUT heads      bigint[], -- of each write that was there already: the version before it
    OUT positions  bigint[],
    OUT times      bigint[],
    OUT earlier_positions bigint[],
    OUT earlier_times bigint[],
    OUT broken     pg_catalog.text -- a JSON array: the first guard of each commit that does not hold,
                                   -- with the stream's version, or stream and version of the event
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    namespace CONSTANT integer := '{schema}.positions'::regclass::oid::integer;
    failed    record;
    found     record;
    all_broken json[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'eventport appends in READ COMMITTED transactions only'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    PERFORM CASE WHEN l.exclusive
        THEN pg_advisory_xact_lock({schema}.lock_key(l.key))
        ELSE pg_advisory_xact_lock_shared({schema}.lock_key(l.key))
    END
    FROM (
        SELECT u.key, u.exclusive FROM unnest(lock_keys, lock_exclusive) AS u(key, exclusive)
        ORDER BY u.key
    ) AS l;

    IF guards IS NOT NULL THEN
        -- All streams, those that are only guarded too, in the order of the locks; unless all other
        -- appends are kept away.
        IF cardinality(streams) <= 1000 THEN
            PERFORM CASE WHEN l.exclusive
                THEN pg_advisory_xact_lock(l.key)
                ELSE pg_advisory_xact_lock_shared(l.key)
            END
            FROM (
                SELECT hashtextextended(u.stream, namespace) AS key, bool_or(u.written) AS exclusive
                FROM (
                    SELECT w.stream, true FROM unnest(streams) AS w(stream)
                    UNION ALL
                    SELECT g.stream, false FROM json_to_recordset(guards::json) AS g(stream text)
                    WHERE g.stream IS NOT NULL
                ) AS u(stream, written)
                GROUP BY key ORDER BY key
            ) AS l;
        END IF;
        -- A statement of its own, whose snapshot is newer than the locks.
        FOR failed IN
            SELECT DISTINCT ON (g.commit) g.commit, g.n, g.stream, coalesce(h.version, u.version)
                AS version, u.stream AS event_stream, u.id AS event_id
            FROM json_to_recordset(guards::json) AS g(
                commit integer, n integer, stream text, expected bigint, matches json, floor bigint,
                seen bigint[]
            )
            LEFT JOIN LATERAL (
                SELECT coalesce(max(e.version), 0) AS version FROM {schema}.events e
                WHERE e.stream = g.stream
            ) AS h ON g.stream IS NOT NULL
            LEFT JOIN LATERAL (
                SELECT e.stream, e.version, e.id
                FROM {schema}.matching(
                    g.matches, g.floor, 9223372036854775807, cardinality(g.seen) + 1, false
                ) WITH ORDINALITY AS m(position, n)
                JOIN {schema}.events e ON e.position = m.position
                WHERE m.position <> ALL (g.seen) ORDER BY m.n LIMIT 1
            ) AS u ON g.stream IS NULL
            WHERE CASE WHEN g.stream IS NULL THEN u.version IS NOT NULL
                ELSE g.expected <> h.version AND (g.expected <> -2 OR h.version = 0) END
            ORDER BY g.commit, g.n
        LOOP
            all_broken := all_broken || json_build_object(
                'commit', failed.commit, 'n', failed.n, 'version', failed.version,
                'stream', failed.event_stream
            );
            -- It must not be written, but may be there already, at the versions that it expects or
            -- where the event is, if that is one of its own.
            FOR w IN 1 .. cardinality(write_commits) LOOP
                CONTINUE WHEN write_commits[w] <> failed.commit;
                IF write_expected[w] < 0 THEN
                    SELECT max(failed.version - e.ordinal) AS version INTO found
                    FROM unnest(event_streams, event_writes, event_offsets, event_ids)
                        AS e(stream, write, ordinal, id)
                    WHERE e.write = w AND e.id = failed.event_id AND e.stream = failed.event_stream;
                    write_expected[w] := found.version;
                END IF;
                write_expected[w] := coalesce(-10 - write_expected[w], -3);
            END LOOP;
        END LOOP;
        broken := array_to_json(all_broken)::text;
    END IF;

    SELECT a.* FROM {schema}.append(
        streams, write_commits, write_streams, write_expected, write_sizes, event_streams,
        event_writes, event_offsets, event_types, event_data, event_binary, event_metadata,
        event_ids, place, event_times, event_tags
    ) AS a
    INTO outcomes, heads, positions, times, earlier_positions, earlier_times;
    FOR w IN 1 .. cardinality(write_commits) LOOP
        IF outcomes[write_commits[w]] = -1 AND write_expected[w] <= -10 THEN
            heads[w] := -10 - write_expected[w];
        ELSIF outcomes[write_commits[w]] > 0 AND write_expected[w] <= -3 THEN
            -- What was expected of the stream may fail, too, and then that is reported.
            heads[w] := (
                SELECT coalesce(max(e.version), 0) FROM {schema}.events e
                WHERE e.stream = streams[write_streams[w]]
            );
        END IF;
    END LOOP;
END
$function$;

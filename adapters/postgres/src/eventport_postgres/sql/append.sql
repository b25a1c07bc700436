-- Write a batch of commits. Each is atomic and independent of the others.
CREATE OR REPLACE FUNCTION {schema}.append(
    streams        pg_catalog.text[],  -- each stream of the batch, once
    write_commits  integer[],          -- of each write: its commit, counted from 1
    write_streams  integer[],          -- of each write: its stream, as an index of streams
    write_expected bigint[],           -- of each write: a version, or -1 for any, or -2 for one
                                       -- that exists; -3 if it must not be written, or -10 and
                                       -- less if it may be there already, after version 0 and more
    write_sizes    integer[],          -- of each write: how many events it has
    event_streams  pg_catalog.text[],  -- and of each event ...
    event_writes   integer[],
    event_offsets  integer[],          -- its place in its write, counted from 1
    event_types    pg_catalog.text[],
    event_data     pg_catalog.text[],
    event_binary   pg_catalog.bytea[],
    event_metadata pg_catalog.text[],
    event_ids      pg_catalog.uuid[],
    place          bigint DEFAULT NULL, -- see check_place
    event_times    bigint[] DEFAULT NULL, -- of each event: null, or the time of a copy, in
                                          -- microseconds since 1970
    event_tags     pg_catalog.text[] DEFAULT NULL, -- of each event: a JSON array, or null for none
    OUT outcomes   integer[], -- of each commit: 0 if written, -1 if there already, or the write of
                              -- it, counted from 1, whose expectation failed
    OUT heads      bigint[],  -- of each write that was tried: the version that its stream had
    OUT positions  bigint[],  -- of all events that were written, in order
    OUT times      bigint[],  -- of all events that were written, in order: microseconds since 1970
    OUT earlier_positions bigint[],  -- of all events that were there already, in order
    OUT earlier_times bigint[]       -- of all events that were there already, in order
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    namespace CONSTANT integer := '{schema}.positions'::regclass::oid::integer;
    -- "No positions" would be null otherwise.
    commits   CONSTANT integer := write_commits[cardinality(write_commits)];
    starts    bigint[];
    floors    timestamptz[]; -- of each stream: the time of its newest event
    now       timestamptz;
    expected  bigint;
    head      bigint;
    current   integer := 0;
    first     integer;
    failures  boolean := false;
    earlier   record;
BEGIN
    -- A snapshot that is older than the locks below would show an outdated stream.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'eventport appends in READ COMMITTED transactions only'
            USING ERRCODE = 'feature_not_supported';
    END IF;

    PERFORM {schema}.check_place(place);

    -- Say to readers: "until I end, I may add positions above this one." The position is read
    -- first, and those of this batch are taken only when the lock is held.
    PERFORM pg_advisory_xact_lock_shared(
        namespace, (CASE WHEN is_called THEN last_value ELSE last_value - 1 END)::bit(32)::integer
    ) FROM {schema}.positions;

    -- All appends share one lock, which a huge batch takes alone, in place of more locks for its
    -- streams than the server has.
    IF cardinality(streams) > 1000 THEN
        PERFORM pg_advisory_xact_lock({schema}.lock_key(0));
    ELSE
        PERFORM pg_advisory_xact_lock_shared({schema}.lock_key(0));
        -- In the order of the locks, so that no two batches wait for each other.
        PERFORM pg_advisory_xact_lock(l.key) FROM (
            SELECT DISTINCT hashtextextended(u.stream, namespace) AS key
            FROM unnest(streams) AS u(stream) ORDER BY key
        ) AS l;
    END IF;

    -- How the streams stand now becomes how they stand after one commit after the other.
    heads := array_fill(0::bigint, ARRAY[cardinality(write_commits)]);
    SELECT array_agg(coalesce(newest.version, 0) ORDER BY u.n),
           array_agg(newest.recorded_at ORDER BY u.n)
    INTO starts, floors
    FROM unnest(streams) WITH ORDINALITY AS u(stream, n)
    LEFT JOIN LATERAL (
        SELECT e.version, e.recorded_at FROM {schema}.events e
        WHERE e.stream = u.stream ORDER BY e.version DESC LIMIT 1
    ) AS newest ON true;
    outcomes := array_fill(0, ARRAY[commits]);
    FOR w IN 1 .. cardinality(write_commits) LOOP
        IF write_commits[w] <> current THEN
            current := write_commits[w];
            first := w;
        ELSIF outcomes[current] > 0 THEN
            CONTINUE;
        END IF;
        head := starts[write_streams[w]];
        heads[w] := head;
        expected := write_expected[w];
        IF expected = -1 OR expected = head OR (expected = -2 AND head > 0) THEN
            starts[write_streams[w]] := head + write_sizes[w];
        ELSE
            failures := true;
            outcomes[current] := w - first + 1;
            FOR undone IN REVERSE w - 1 .. first LOOP
                starts[write_streams[undone]] := heads[undone];
            END LOOP;
        END IF;
    END LOOP;

    -- Within a stream, time never goes back, even if the clock was set back. Only copies keep
    -- their times, whatever came before; what is appended with them or after them is not earlier.
    now := clock_timestamp();
    IF event_times IS NOT NULL THEN
        SELECT array_agg(greatest(f.floor, c.latest) ORDER BY f.n) INTO floors
        FROM unnest(streams, floors) WITH ORDINALITY AS f(stream, floor, n)
        LEFT JOIN (
            SELECT e.stream, 'epoch'::timestamptz + max(e.at) * interval '1 microsecond' AS latest
            FROM unnest(event_streams, event_times) AS e(stream, at) GROUP BY e.stream
        ) AS c ON c.stream = f.stream;
    END IF;
    WITH written AS (
        INSERT INTO {schema}.events
        SELECT nextval('{schema}.positions'), e.stream, heads[e.write] + e.ordinal, e.type,
               e.data::json, e.binary_data, e.metadata::json, e.id,
               coalesce(
                   'epoch'::timestamptz + e.at * interval '1 microsecond',
                   greatest(now, floors[write_streams[e.write]])
               ),
               coalesce(octet_length(e.data), octet_length(e.binary_data))
                   + octet_length(e.metadata),
               CASE WHEN e.tags IS NOT NULL
                   THEN ARRAY(SELECT json_array_elements_text(e.tags::json)) END
        FROM unnest(
            event_streams, event_writes, event_offsets, event_types, event_data, event_binary,
            event_metadata, event_ids, event_times, event_tags
        ) AS e(stream, write, ordinal, type, data, binary_data, metadata, id, at, tags)
        WHERE NOT failures OR outcomes[write_commits[e.write]] = 0
        RETURNING events.position, events.recorded_at
    )
    SELECT array_agg(w.position ORDER BY w.position),
           array_agg((EXTRACT(epoch FROM w.recorded_at) * 1000000)::bigint ORDER BY w.position)
    INTO positions, times FROM written AS w;
    IF event_tags IS NOT NULL THEN
        INSERT INTO {schema}.tags
        SELECT t.tag, e.position, e.type
        FROM {schema}.events e, unnest(e.tags) AS t(tag)
        WHERE e.position = ANY (positions);
    END IF;

    IF failures THEN
        -- A commit that some earlier try has written, maybe one of this very batch, is no failure.
        FOR earlier IN
            SELECT write_commits[e.write] AS number,
                   array_agg(v.position ORDER BY e.n) AS positions,
                   array_agg((EXTRACT(epoch FROM v.recorded_at) * 1000000)::bigint ORDER BY e.n)
                       AS times
            FROM unnest(event_streams, event_writes, event_offsets, event_ids)
                WITH ORDINALITY AS e(stream, write, ordinal, id, n)
            LEFT JOIN LATERAL (
                SELECT s.position, s.recorded_at FROM {schema}.events s
                WHERE s.stream = e.stream AND s.id = e.id
                    -- Far above what any stream can have, the sum would overflow.
                    AND s.version = CASE
                        WHEN write_expected[e.write] BETWEEN 0 AND 1::bigint << 62
                            THEN write_expected[e.write] + e.ordinal
                        WHEN write_expected[e.write] <= -10
                            THEN -10 - write_expected[e.write] + e.ordinal
                    END
                LIMIT 1
            ) AS v ON true
            WHERE outcomes[write_commits[e.write]] > 0
            GROUP BY write_commits[e.write]
            HAVING count(v.position) = count(*)
            ORDER BY write_commits[e.write]
        LOOP
            outcomes[earlier.number] := -1;
            earlier_positions := earlier_positions || earlier.positions;
            earlier_times := earlier_times || earlier.times;
        END LOOP;
    END IF;
END
$function$;

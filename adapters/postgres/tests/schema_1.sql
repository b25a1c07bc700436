-- What version 1 has made, in the schema old.
CREATE SCHEMA IF NOT EXISTS "old";

CREATE TABLE "old".migrations (
    version    integer     PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The global order. CACHE must stay 1: positions are taken in the order in which they are used.
CREATE SEQUENCE "old".positions AS bigint CACHE 1;

CREATE TABLE "old".events (
    position    bigint           PRIMARY KEY,
    stream      text COLLATE "C" NOT NULL,
    version     bigint           NOT NULL,
    type        text COLLATE "C" NOT NULL,
    data        json,            -- as it was appended, to the letter; or else
    binary_data bytea,           -- the bytes that were appended
    metadata    json             NOT NULL,
    id          uuid             NOT NULL,
    recorded_at timestamptz      NOT NULL,
    size        integer          NOT NULL, -- the bytes of data and metadata
    UNIQUE (stream, version),
    CHECK (num_nonnulls(data, binary_data) = 1)
);

-- Write a batch of commits. Each is atomic and independent of the others.
CREATE FUNCTION "old".append(
    streams        text[],    -- each stream of the batch, once
    write_commits  integer[], -- of each write: its commit, counted from 1
    write_streams  integer[], -- of each write: its stream, as an index of streams
    write_expected bigint[],  -- of each write: a version, or -1 for any, or -2 for one that exists
    write_sizes    integer[], -- of each write: how many events it has
    event_streams  text[],    -- and of each event ...
    event_writes   integer[],
    event_offsets  integer[], -- its place in its write, counted from 1
    event_types    text[],
    event_data     text[],
    event_binary   bytea[],
    event_metadata text[],
    event_ids      uuid[],
    OUT outcomes   integer[], -- of each commit: 0 if written, -1 if there already, or the write of
                              -- it, counted from 1, whose expectation failed
    OUT heads      bigint[],  -- of each write that was tried: the version that its stream had
    OUT positions  bigint[],  -- of all events that were written, in order
    OUT written_at timestamptz,
    OUT earlier_positions bigint[], -- of all events that were there already, in order
    OUT earlier_at timestamptz[]    -- of each commit that was there already
)
LANGUAGE plpgsql AS $function$
DECLARE
    namespace CONSTANT integer := '"old".positions'::regclass::oid::integer;
    -- "No positions" would be null otherwise.
    commits   CONSTANT integer := write_commits[cardinality(write_commits)];
    starts    bigint[];
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

    -- Say to readers: "until I end, I may add positions above this one." The position is read
    -- first, and those of this batch are taken only when the lock is held.
    PERFORM pg_advisory_xact_lock_shared(
        namespace, (CASE WHEN is_called THEN last_value ELSE last_value - 1 END)::bit(32)::integer
    ) FROM "old".positions;

    -- In the order of the locks, so that no two batches wait for each other.
    PERFORM pg_advisory_xact_lock(l.key) FROM (
        SELECT DISTINCT hashtextextended(u.stream, namespace) AS key
        FROM unnest(streams) AS u(stream) ORDER BY key
    ) AS l;

    -- How the streams stand now becomes how they stand after one commit after the other.
    heads := array_fill(0::bigint, ARRAY[cardinality(write_commits)]);
    starts := ARRAY(
        SELECT coalesce((
            SELECT e.version FROM "old".events e
            WHERE e.stream = u.stream ORDER BY e.version DESC LIMIT 1
        ), 0)
        FROM unnest(streams) WITH ORDINALITY AS u(stream, n) ORDER BY u.n
    );
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

    written_at := clock_timestamp();
    WITH written AS (
        INSERT INTO "old".events
        SELECT nextval('"old".positions'), e.stream, heads[e.write] + e.ordinal, e.type,
               e.data::json, e.binary_data, e.metadata::json, e.id, written_at,
               coalesce(octet_length(e.data), octet_length(e.binary_data))
                   + octet_length(e.metadata)
        FROM unnest(
            event_streams, event_writes, event_offsets, event_types, event_data, event_binary,
            event_metadata, event_ids
        ) AS e(stream, write, ordinal, type, data, binary_data, metadata, id)
        WHERE NOT failures OR outcomes[write_commits[e.write]] = 0
        RETURNING events.position
    )
    SELECT array_agg(w.position ORDER BY w.position) INTO positions FROM written AS w;

    IF failures THEN
        -- A commit that some earlier try has written, maybe one of this very batch, is no failure.
        FOR earlier IN
            SELECT write_commits[e.write] AS number, max(v.recorded_at) AS at,
                   array_agg(v.position ORDER BY e.n) AS positions
            FROM unnest(event_streams, event_writes, event_offsets, event_ids)
                WITH ORDINALITY AS e(stream, write, ordinal, id, n)
            LEFT JOIN LATERAL (
                SELECT s.position, s.recorded_at FROM "old".events s
                WHERE s.stream = e.stream AND s.version = write_expected[e.write] + e.ordinal
                    AND s.id = e.id AND write_expected[e.write] >= 0
                LIMIT 1
            ) AS v ON true
            WHERE outcomes[write_commits[e.write]] > 0
            GROUP BY write_commits[e.write]
            HAVING count(v.position) = count(*)
            ORDER BY write_commits[e.write]
        LOOP
            outcomes[earlier.number] := -1;
            earlier_positions := earlier_positions || earlier.positions;
            earlier_at := earlier_at || earlier.at;
        END LOOP;
    END IF;
END
$function$;

-- Do the same for a lone commit of one event, the most frequent one by far, on a shorter way.
CREATE FUNCTION "old".append_one(
    to_stream text, expected bigint, event_type text, event_data text, event_binary bytea,
    event_metadata text, event_id uuid,
    OUT outcomes integer[], OUT heads bigint[], OUT positions bigint[], OUT written_at timestamptz,
    OUT earlier_positions bigint[], OUT earlier_at timestamptz[]
)
LANGUAGE plpgsql AS $function$
DECLARE
    namespace CONSTANT integer := '"old".positions'::regclass::oid::integer;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'eventport appends in READ COMMITTED transactions only'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(
        namespace, (CASE WHEN is_called THEN last_value ELSE last_value - 1 END)::bit(32)::integer
    ), pg_advisory_xact_lock(hashtextextended(to_stream, namespace)) FROM "old".positions;
    INSERT INTO "old".events
    SELECT nextval('"old".positions'), to_stream, h.head + 1, event_type, event_data::json,
           event_binary, event_metadata::json, event_id, clock_timestamp(),
           coalesce(octet_length(event_data), octet_length(event_binary))
               + octet_length(event_metadata)
    FROM (
        SELECT coalesce((
            SELECT e.version FROM "old".events e
            WHERE e.stream = to_stream ORDER BY e.version DESC LIMIT 1
        ), 0)
    ) AS h(head)
    WHERE expected = -1 OR expected = h.head OR (expected = -2 AND h.head > 0)
    RETURNING ARRAY[events.version - 1], ARRAY[events.position], events.recorded_at
    INTO heads, positions, written_at;
    IF FOUND THEN
        outcomes := '{0}';
    ELSE
        SELECT a.* FROM "old".append(
            ARRAY[to_stream], '{1}', '{1}', ARRAY[expected], '{1}', ARRAY[to_stream], '{1}', '{1}',
            ARRAY[event_type], ARRAY[event_data], ARRAY[event_binary], ARRAY[event_metadata],
            ARRAY[event_id]
        ) AS a
        INTO outcomes, heads, positions, written_at, earlier_positions, earlier_at;
    END IF;
END
$function$;

-- Tell how far events can be read without missing any, ever. `head` is the last position that has
-- been taken, `bound` the last one below which no transaction is open.
CREATE FUNCTION "old".frontier(OUT head bigint, OUT bound bigint)
LANGUAGE plpgsql AS $function$
DECLARE
    namespace CONSTANT oid := '"old".positions'::regclass::oid;
    floor     bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'eventport reads all streams in READ COMMITTED transactions only'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a standby does not show which transactions are open on its primary'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    -- The order is what makes it right: first the head, then the locks, and later, in a statement
    -- of its own, the events. Who takes a lock after this look takes positions above this head;
    -- who has released one before it has made its events visible.
    SELECT CASE WHEN p.is_called THEN p.last_value ELSE p.last_value - 1 END
        INTO head FROM "old".positions p;
    -- Locks hold the lower 32 bits of a position. Those that seem to be far above the head were
    -- taken after it was read.
    SELECT min(head - d.distance) INTO floor
    FROM (
        SELECT (head - l.objid::bigint) & 4294967295 AS distance FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.classid = namespace AND l.objsubid = 2
            AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    ) AS d
    WHERE d.distance < 2147483648;
    bound := least(head, floor);
END
$function$;

-- Read events of all streams. The first row tells how far one could read (extent) and how far
-- this has looked (position). The others are the events; their extent is the number of bytes of
-- the events up to this one. They end with the one that makes it `max_bytes`, or more.
CREATE FUNCTION "old".read_all(
    after_position bigint, max_count bigint, only_types text[], only_prefix text, scan bigint,
    max_bytes bigint
)
RETURNS TABLE (
    extent bigint, "position" bigint, stream text, version bigint, type text, data text,
    binary_data bytea, metadata text, id uuid, recorded_at timestamptz
)
LANGUAGE plpgsql
-- Before it has statistics, the server would sort all events after a position for each page.
SET enable_sort = off
AS $function$
#variable_conflict use_column
DECLARE
    until bigint;
BEGIN
    SELECT f.bound INTO until FROM "old".frontier() AS f;
    -- No reader passes the last event: a server that crashes may give out again the positions of
    -- transactions that were undone.
    SELECT coalesce(max(e.position), 0) INTO extent FROM "old".events e
        WHERE e.position <= until;
    until := extent;
    IF only_types IS NOT NULL OR only_prefix IS NOT NULL THEN
        until := least(extent, after_position + scan);
    END IF;
    "position" := until;
    RETURN NEXT;
    IF after_position < until THEN
        RETURN QUERY
        SELECT s.extent, s.position, s.stream, s.version, s.type, s.data::text, s.binary_data,
               s.metadata::text, s.id, s.recorded_at
        FROM (
            SELECT e.*, sum(e.size) OVER (
                ORDER BY e.position ROWS UNBOUNDED PRECEDING
            ) AS extent
            FROM "old".events e
            WHERE e.position > after_position AND e.position <= until
                AND (only_types IS NULL OR e.type = ANY (only_types))
                AND (only_prefix IS NULL OR starts_with(e.stream, only_prefix))
            ORDER BY e.position LIMIT max_count
        ) AS s
        WHERE s.extent - s.size < max_bytes
        ORDER BY s.position;
    END IF;
END
$function$;

INSERT INTO "old".migrations (version) VALUES (1);

-- Do the same for a lone commit of one event, by far the most frequent one, by a shorter way.
--
-- All names in here have their schema: fixing the search_path costs more than the rest of it.
CREATE OR REPLACE FUNCTION {schema}.append_one(
    to_stream      pg_catalog.text,
    expected       bigint,
    event_type     pg_catalog.text,
    event_data     pg_catalog.text,
    event_binary   pg_catalog.bytea,
    event_metadata pg_catalog.text,
    event_id       pg_catalog.uuid,
    place          bigint DEFAULT NULL, -- see check_place
    OUT outcomes   integer[],
    OUT heads      bigint[],
    OUT positions  bigint[],
    OUT times      bigint[],
    OUT earlier_positions bigint[],
    OUT earlier_times bigint[]
)
LANGUAGE plpgsql
AS $function$
DECLARE
    namespace CONSTANT integer :=
        '{schema}.positions'::pg_catalog.regclass::pg_catalog.oid::integer;
BEGIN
    IF pg_catalog.current_setting('transaction_isolation')
        OPERATOR(pg_catalog.<>) 'read committed'
    THEN
        RAISE EXCEPTION 'eventport appends in READ COMMITTED transactions only'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    PERFORM {schema}.check_place(place), pg_catalog.pg_advisory_xact_lock_shared(namespace, (
        CASE WHEN is_called THEN last_value ELSE last_value OPERATOR(pg_catalog.-) 1 END
    )::bit(32)::integer),
        pg_catalog.pg_advisory_xact_lock_shared({schema}.lock_key(0)),
        pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(to_stream, namespace))
    FROM {schema}.positions;
    INSERT INTO {schema}.events
    SELECT pg_catalog.nextval('{schema}.positions'), to_stream, h.head OPERATOR(pg_catalog.+) 1,
           event_type, event_data::pg_catalog.json, event_binary, event_metadata::pg_catalog.json,
           event_id, greatest(pg_catalog.clock_timestamp(), h.recorded_at),
           coalesce(pg_catalog.octet_length(event_data), pg_catalog.octet_length(event_binary))
               OPERATOR(pg_catalog.+) pg_catalog.octet_length(event_metadata)
    FROM (
        SELECT coalesce(newest.version, 0), newest.recorded_at
        FROM (VALUES (to_stream)) AS s(stream)
        LEFT JOIN LATERAL (
            SELECT e.version, e.recorded_at FROM {schema}.events e
            WHERE e.stream OPERATOR(pg_catalog.=) s.stream ORDER BY e.version DESC LIMIT 1
        ) AS newest ON true
    ) AS h(head, recorded_at)
    WHERE expected OPERATOR(pg_catalog.=) -1 OR expected OPERATOR(pg_catalog.=) h.head
        OR (expected OPERATOR(pg_catalog.=) -2 AND h.head OPERATOR(pg_catalog.>) 0)
    RETURNING ARRAY[events.version OPERATOR(pg_catalog.-) 1], ARRAY[events.position],
        ARRAY[(EXTRACT(epoch FROM events.recorded_at) OPERATOR(pg_catalog.*) 1000000)::bigint]
    INTO heads, positions, times;
    IF FOUND THEN
        outcomes := '{0}';
    ELSE
        SELECT a.* FROM {schema}.append(
            ARRAY[to_stream], '{1}', '{1}', ARRAY[expected], '{1}', ARRAY[to_stream], '{1}', '{1}',
            ARRAY[event_type], ARRAY[event_data], ARRAY[event_binary], ARRAY[event_metadata],
            ARRAY[event_id]
        ) AS a
        INTO outcomes, heads, positions, times, earlier_positions, earlier_times;
    END IF;
END
$function$;

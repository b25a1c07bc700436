-- Do the same for a lone commit of one event, the most frequent one by far, on a shorter way.
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
    OUT written_at pg_catalog.timestamptz,
    OUT earlier_positions bigint[],
    OUT earlier_at pg_catalog.timestamptz[]
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    namespace CONSTANT integer := '{schema}.positions'::regclass::oid::integer;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'eventport appends in READ COMMITTED transactions only'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    PERFORM {schema}.check_place(place);
    PERFORM pg_advisory_xact_lock_shared(
        namespace, (CASE WHEN is_called THEN last_value ELSE last_value - 1 END)::bit(32)::integer
    ), pg_advisory_xact_lock(hashtextextended(to_stream, namespace)) FROM {schema}.positions;
    INSERT INTO {schema}.events
    SELECT nextval('{schema}.positions'), to_stream, h.head + 1, event_type, event_data::json,
           event_binary, event_metadata::json, event_id, clock_timestamp(),
           coalesce(octet_length(event_data), octet_length(event_binary))
               + octet_length(event_metadata)
    FROM (
        SELECT coalesce((
            SELECT e.version FROM {schema}.events e
            WHERE e.stream = to_stream ORDER BY e.version DESC LIMIT 1
        ), 0)
    ) AS h(head)
    WHERE expected = -1 OR expected = h.head OR (expected = -2 AND h.head > 0)
    RETURNING ARRAY[events.version - 1], ARRAY[events.position], events.recorded_at
    INTO heads, positions, written_at;
    IF FOUND THEN
        outcomes := '{0}';
    ELSE
        SELECT a.* FROM {schema}.append(
            ARRAY[to_stream], '{1}', '{1}', ARRAY[expected], '{1}', ARRAY[to_stream], '{1}', '{1}',
            ARRAY[event_type], ARRAY[event_data], ARRAY[event_binary], ARRAY[event_metadata],
            ARRAY[event_id]
        ) AS a
        INTO outcomes, heads, positions, written_at, earlier_positions, earlier_at;
    END IF;
END
$function$;

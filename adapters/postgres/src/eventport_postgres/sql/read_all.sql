-- Read events of all streams. The first row has the stable frontier (extent), the last position
-- scanned (position) and the last position that has been taken (version). The others are the
-- events; their extent is the number of bytes of the events up to this one. They end with the one
-- that makes it `max_bytes`, or more.
CREATE OR REPLACE FUNCTION {schema}.read_all(
    after_position bigint,
    max_count      bigint,
    only_types     pg_catalog.text[],
    only_prefix    pg_catalog.text,
    scan           bigint,
    max_bytes      bigint,
    place          bigint DEFAULT NULL, -- see check_place
    only_stream    pg_catalog.text DEFAULT NULL,
    only_query     pg_catalog.text DEFAULT NULL -- a JSON array of objects with types and tags
)
RETURNS TABLE (
    extent         bigint,
    "position"     bigint,
    stream         pg_catalog.text,
    version        bigint,
    type           pg_catalog.text,
    data           pg_catalog.text,
    binary_data    pg_catalog.bytea,
    metadata       pg_catalog.text,
    id             pg_catalog.uuid,
    recorded_at    pg_catalog.timestamptz,
    tags           pg_catalog.text[]
)
LANGUAGE plpgsql
-- Or else, before it has statistics, the server sorts all that is after a position for each page.
SET enable_sort = off
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    until bigint;
BEGIN
    PERFORM {schema}.check_place(place);
    SELECT f.head, f.bound INTO version, until FROM {schema}.frontier() AS f;
    -- No reader passes the last event: a server that crashes may give out again the positions of
    -- transactions that were undone.
    SELECT coalesce(max(e.position), 0) INTO extent FROM {schema}.events e
        WHERE e.position <= until;
    until := extent;
    IF num_nonnulls(only_types, only_prefix, only_stream, only_query) > 0
        AND after_position < extent
    THEN
        until := after_position + least(scan, extent - after_position);
    END IF;
    "position" := until;
    RETURN NEXT;
    IF after_position < until THEN
        RETURN QUERY
        WITH wanted AS MATERIALIZED (
            SELECT w.types, w.tags
            FROM json_to_recordset(only_query::json) AS w(types text[], tags text[])
        )
        SELECT s.extent, s.position, s.stream, s.version, s.type, s.data::text, s.binary_data,
               s.metadata::text, s.id, s.recorded_at, s.tags
        FROM (
            SELECT e.*, sum(e.size) OVER (
                ORDER BY e.position ROWS UNBOUNDED PRECEDING
            ) AS extent
            FROM {schema}.events e
            WHERE e.position > after_position AND e.position <= until
                AND (only_types IS NULL OR e.type = ANY (only_types))
                AND (only_prefix IS NULL OR starts_with(e.stream, only_prefix))
                AND (only_stream IS NULL OR e.stream = only_stream)
                AND (only_query IS NULL OR EXISTS (
                    SELECT FROM wanted w
                    WHERE (w.types IS NULL OR e.type = ANY (w.types))
                        AND (w.tags IS NULL OR e.tags @> w.tags)
                ))
            ORDER BY e.position LIMIT max_count
        ) AS s
        WHERE s.extent - s.size < max_bytes
        ORDER BY s.position;
    END IF;
END
$function$;

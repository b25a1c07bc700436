-- Read events that match, even above the stable frontier. The first row has the frontier (extent),
-- the last position that can be seen (position), and the positions above the frontier of all events
-- that match (data), which are what a reader has seen. The others are the events; their extent is
-- the number of bytes of the events up to this one. They end with the one that makes it
-- `max_bytes`, or more.
CREATE OR REPLACE FUNCTION {schema}.read_matches(
    matches        pg_catalog.text, -- see matching
    after_position bigint,
    until_position bigint,
    max_count      bigint,
    backwards      boolean,
    max_bytes      bigint,
    place          bigint DEFAULT NULL -- see check_place
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
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    bound bigint;
    floor bigint;
BEGIN
    PERFORM {schema}.check_place(place);
    -- First the frontier, and later, in one statement, all the rest: what appears in between is
    -- above the frontier, and among the positions that are listed, or not seen.
    SELECT f.bound INTO bound FROM {schema}.frontier() AS f;
    SELECT coalesce(max(e.position), 0) INTO floor FROM {schema}.events e
        WHERE e.position <= bound;
    RETURN QUERY
    WITH newest AS MATERIALIZED (
        SELECT coalesce(max(e.position), 0) AS position FROM {schema}.events e
    )
    SELECT floor, n.position, NULL::text, NULL::bigint, NULL::text,
           (
               SELECT array_agg(m.position)
               FROM {schema}.matching(
                   matches::json, floor, n.position, NULL, false
               ) AS m(position)
           )::text,
           NULL::bytea, NULL::text, NULL::uuid, NULL::timestamptz, NULL::text[]
    FROM newest n
    UNION ALL
    SELECT s.extent, s.position, s.stream, s.version, s.type, s.data::text, s.binary_data,
           s.metadata::text, s.id, s.recorded_at, s.tags
    FROM (
        SELECT e.*, m.n, sum(e.size) OVER (ORDER BY m.n ROWS UNBOUNDED PRECEDING) AS extent
        FROM newest, LATERAL {schema}.matching(
            matches::json, after_position, least(until_position, newest.position), max_count,
            backwards
        ) WITH ORDINALITY AS m(position, n)
        JOIN {schema}.events e ON e.position = m.position
    ) AS s
    WHERE s.extent - s.size < max_bytes;
END
$function$;

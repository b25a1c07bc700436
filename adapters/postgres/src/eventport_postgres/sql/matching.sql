-- Return the first positions in a range of events that match, in order. An event matches if it has
-- one of the types and all tags of one object of a JSON array; what an object leaves out may be
-- anything. It is STABLE, so it sees what the statement sees that calls it.
CREATE OR REPLACE FUNCTION {schema}.matching(
    matches   pg_catalog.json,
    low       bigint, -- only after this position
    high      bigint, -- and up to this one
    max_count bigint, -- null for all
    backwards boolean
)
RETURNS SETOF bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    -- The same statement, twice: only a constant order is that of an index.
    IF backwards THEN
        RETURN QUERY
        SELECT f.position FROM json_to_recordset(matches) AS m(types text[], tags text[])
        CROSS JOIN LATERAL (
            (
                SELECT t.position FROM {schema}.tags t
                WHERE m.tags IS NOT NULL AND t.tag = m.tags[1]
                    AND t.position > low AND t.position <= high
                    AND (m.types IS NULL OR t.type = ANY (m.types))
                    AND NOT EXISTS (
                        SELECT FROM unnest(m.tags[2:]) AS o(tag) WHERE NOT EXISTS (
                            SELECT FROM {schema}.tags x
                            WHERE x.tag = o.tag AND x.position = t.position
                        )
                    )
                ORDER BY t.position DESC LIMIT max_count
            ) UNION ALL (
                SELECT e.position FROM {schema}.events e
                WHERE m.tags IS NULL AND e.position > low AND e.position <= high
                    AND (m.types IS NULL OR e.type = ANY (m.types))
                ORDER BY e.position DESC LIMIT max_count
            )
        ) AS f
        GROUP BY f.position ORDER BY f.position DESC LIMIT max_count;
    ELSE
        RETURN QUERY
        SELECT f.position FROM json_to_recordset(matches) AS m(types text[], tags text[])
        CROSS JOIN LATERAL (
            (
                SELECT t.position FROM {schema}.tags t
                WHERE m.tags IS NOT NULL AND t.tag = m.tags[1]
                    AND t.position > low AND t.position <= high
                    AND (m.types IS NULL OR t.type = ANY (m.types))
                    AND NOT EXISTS (
                        SELECT FROM unnest(m.tags[2:]) AS o(tag) WHERE NOT EXISTS (
                            SELECT FROM {schema}.tags x
                            WHERE x.tag = o.tag AND x.position = t.position
                        )
                    )
                ORDER BY t.position LIMIT max_count
            ) UNION ALL (
                SELECT e.position FROM {schema}.events e
                WHERE m.tags IS NULL AND e.position > low AND e.position <= high
                    AND (m.types IS NULL OR e.type = ANY (m.types))
                ORDER BY e.position LIMIT max_count
            )
        ) AS f
        GROUP BY f.position ORDER BY f.position LIMIT max_count;
    END IF;
END
$function$;

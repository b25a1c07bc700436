-- Look at a store that is there: its sequence, its last event, its identity, and whether some of
-- its functions are missing, or name another schema. The events are those of the statement's
-- beginning, the sequence is read later: it cannot be behind, unless it stays behind.
SELECT p.tableoid::pg_catalog.int8,
    (SELECT coalesce(pg_catalog.max(e.position), 0) FROM {schema}.events e),
    CASE WHEN p.is_called THEN p.last_value ELSE p.last_value OPERATOR(pg_catalog.-) 1 END,
    (SELECT s.id::pg_catalog.text FROM {schema}.store s),
    (
        SELECT pg_catalog.count(DISTINCT f.proname) FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) f.pronamespace
        WHERE n.nspname OPERATOR(pg_catalog.=) $1
            AND f.proname OPERATOR(pg_catalog.=) ANY ($3::pg_catalog.text[])
            -- In string literals, too, where quotes are doubled.
            AND pg_catalog.strpos(pg_catalog.replace(f.prosrc, $4, $5), $2)
                OPERATOR(pg_catalog.>) 0
    ) OPERATOR(pg_catalog.<) pg_catalog.cardinality($3)
FROM {schema}.positions p

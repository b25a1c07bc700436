-- Return the stable frontier: no event at or below `bound` can still appear. `head` is the last
-- position that has been taken.
CREATE OR REPLACE FUNCTION {schema}.frontier(OUT head bigint, OUT bound bigint)
LANGUAGE plpgsql
AS $function$
DECLARE
    namespace CONSTANT pg_catalog.oid := '{schema}.positions'::pg_catalog.regclass::pg_catalog.oid;
    floor     bigint;
BEGIN
    IF pg_catalog.current_setting('transaction_isolation')
        OPERATOR(pg_catalog.<>) 'read committed'
    THEN
        RAISE EXCEPTION 'eventport reads all streams in READ COMMITTED transactions only'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    IF pg_catalog.pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a standby does not show which transactions are open on its primary'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    -- The order is what makes it right: first the head, then the locks, and later, in a statement
    -- of its own, the events. A lock that is taken after this look is for positions above this head;
    -- one that was released before it has made its events visible.
    SELECT CASE WHEN p.is_called THEN p.last_value ELSE p.last_value OPERATOR(pg_catalog.-) 1 END
        INTO head FROM {schema}.positions p;
    -- Locks hold the lower 32 bits of a position. Those that seem to be far above the head were
    -- taken after it was read.
    SELECT pg_catalog.min(head OPERATOR(pg_catalog.-) d.distance) INTO floor
    FROM (
        SELECT (head OPERATOR(pg_catalog.-) l.objid::bigint)
            OPERATOR(pg_catalog.&) 4294967295 AS distance
        FROM pg_catalog.pg_locks l
        WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'
            AND l.classid OPERATOR(pg_catalog.=) namespace
            AND l.objsubid OPERATOR(pg_catalog.=) 2
            AND l.database OPERATOR(pg_catalog.=) (
                SELECT d.oid FROM pg_catalog.pg_database d
                WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
            )
    ) AS d
    WHERE d.distance OPERATOR(pg_catalog.<) 2147483648;
    bound := least(head, floor);
END
$function$;

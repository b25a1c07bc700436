-- Tell how far events can be read without missing any, ever. `head` is the last position that has
-- been taken, `bound` the last one below which no transaction is open.
CREATE OR REPLACE FUNCTION {schema}.frontier(OUT head bigint, OUT bound bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    namespace CONSTANT oid := '{schema}.positions'::regclass::oid;
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
        INTO head FROM {schema}.positions p;
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

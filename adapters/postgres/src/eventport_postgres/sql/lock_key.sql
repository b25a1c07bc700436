-- The key of a lock beside those of streams: 0 is for everything, and each append takes it; those
-- from 1 on stand for tags.
CREATE OR REPLACE FUNCTION {schema}.lock_key(key integer) RETURNS bigint
LANGUAGE sql STABLE AS $function$
    SELECT ('{schema}.positions'::pg_catalog.regclass::pg_catalog.oid::bigint
        OPERATOR(pg_catalog.<<) 32) OPERATOR(pg_catalog.|) key::bigint
$function$;

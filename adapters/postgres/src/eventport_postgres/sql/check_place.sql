-- Return true, or raise an error if this is not the store that the caller has opened. Its schema
-- may have been renamed, dropped or restored since, and another store been made under its name.
-- A place is the number of the sequence, which no other one has. Null stands for any.
--
-- Names in here have their schema, so that the server can make this a part of the statement that
-- calls it. With a constant, nothing is left to do when that is executed.
CREATE OR REPLACE FUNCTION {schema}.refuse_place() RETURNS boolean
LANGUAGE plpgsql STABLE AS $function$
BEGIN
    RAISE EXCEPTION 'another store has taken the place of the one that was opened'
        USING ERRCODE = 'EP001';
END
$function$;

CREATE OR REPLACE FUNCTION {schema}.check_place(place bigint) RETURNS boolean
LANGUAGE sql STABLE AS $function$
    SELECT CASE
        WHEN place OPERATOR(pg_catalog.<>)
            '{schema}.positions'::pg_catalog.regclass::pg_catalog.oid::bigint
        THEN {schema}.refuse_place()
        ELSE true
    END
$function$;

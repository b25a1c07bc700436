-- Return true, or raise an error if this is not the store that the caller has opened. Its schema
-- may have been renamed, dropped or restored since, and another store been made under its name.
-- A place is the number of the sequence, which no other one ever has. Null stands for any.
CREATE OR REPLACE FUNCTION {schema}.check_place(place bigint) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF place <> '{schema}.positions'::regclass::oid::bigint THEN
        RAISE EXCEPTION 'another store has taken the place of the one that was opened'
            USING ERRCODE = 'EP001';
    END IF;
    RETURN true;
END
$function$;

-- Refuse each new event, in the words that the trigger which calls this was made with. It is made
-- together with that trigger, and so costs nothing as long as there is no fence.
CREATE OR REPLACE FUNCTION {schema}.refuse_append() RETURNS trigger
LANGUAGE plpgsql AS $function$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'EP002', MESSAGE = TG_ARGV[0];
END
$function$;

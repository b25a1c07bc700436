-- The id of this store: made once, and kept by backups, restores and renames.
CREATE TABLE {schema}.store (
    only_row boolean         PRIMARY KEY DEFAULT true CHECK (only_row),
    id       pg_catalog.uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid()
);
INSERT INTO {schema}.store DEFAULT VALUES;

-- Those of version 1 take other arguments.
DROP FUNCTION IF EXISTS {schema}.append;
DROP FUNCTION IF EXISTS {schema}.append_one;
DROP FUNCTION IF EXISTS {schema}.read_all;

-- The functions return a time for each event, for which those of version 2 have other columns.
DROP FUNCTION IF EXISTS {schema}.append;
DROP FUNCTION IF EXISTS {schema}.append_one;

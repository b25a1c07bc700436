-- The functions take the times of copies, and one stream to read, for which those of version 3
-- have no parameters.
DROP FUNCTION IF EXISTS {schema}.append;
DROP FUNCTION IF EXISTS {schema}.read_all;

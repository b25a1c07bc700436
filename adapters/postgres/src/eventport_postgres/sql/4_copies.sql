-- The function takes the times of copies, for which that of version 3 has no parameter.
DROP FUNCTION IF EXISTS {schema}.append;

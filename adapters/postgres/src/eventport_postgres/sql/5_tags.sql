-- The tags of events. No event is written again: a new column of old rows reads as null.
ALTER TABLE {schema}.events ADD COLUMN tags pg_catalog.text[] COLLATE pg_catalog."C";

-- The same tags, to find events by them.
CREATE TABLE {schema}.tags (
    tag      pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    position bigint                                 NOT NULL,
    type     pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    PRIMARY KEY (tag, position) INCLUDE (type)
);

-- Those of version 4 take other arguments, or return other columns.
DROP FUNCTION IF EXISTS {schema}.append;
DROP FUNCTION IF EXISTS {schema}.append_one;
DROP FUNCTION IF EXISTS {schema}.read_all;

-- Events stay as they are: a new column of old rows reads as null, without being written.
-- The tags are a JSON array; null for none.
ALTER TABLE eventport_events ADD COLUMN tags TEXT;

CREATE TABLE eventport_tags (
    tag      TEXT    NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (tag, position)
) STRICT, WITHOUT ROWID;

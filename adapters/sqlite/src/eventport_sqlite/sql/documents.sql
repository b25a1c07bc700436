CREATE TABLE IF NOT EXISTS eventport_documents (
    collection TEXT NOT NULL, -- the name of the read model and its generation
    key        TEXT NOT NULL,
    document   TEXT NOT NULL, -- JSON
    PRIMARY KEY (collection, key)
) STRICT;

CREATE TABLE IF NOT EXISTS eventport_lookups (
    collection TEXT NOT NULL,
    lookup     TEXT NOT NULL, -- a field and its value, or their hash
    key        TEXT NOT NULL,
    PRIMARY KEY (collection, lookup, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS eventport_lookups_of_keys ON eventport_lookups (collection, key);

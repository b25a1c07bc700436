-- AUTOINCREMENT, because a position must never be used again, even if the last event is deleted.
-- `data` holds JSON as TEXT and bytes as BLOB, so that the column itself keeps them apart.
CREATE TABLE eventport_schema (version INTEGER NOT NULL) STRICT;

CREATE TABLE eventport_events (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    stream      TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    type        TEXT    NOT NULL,
    data        ANY     NOT NULL,
    metadata    TEXT    NOT NULL,
    id          BLOB    NOT NULL,
    recorded_at INTEGER NOT NULL, -- microseconds since 1970, UTC
    UNIQUE (stream, version)
) STRICT;

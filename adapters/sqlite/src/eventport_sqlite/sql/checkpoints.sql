CREATE TABLE IF NOT EXISTS eventport_projections (
    name           TEXT    NOT NULL,
    generation     INTEGER NOT NULL,
    position       INTEGER NOT NULL DEFAULT 0,
    active         INTEGER NOT NULL DEFAULT 0, -- of several, the highest generation is
    owner          TEXT,
    fence          INTEGER NOT NULL DEFAULT 0, -- counts the leases; only the last one is good
    renewals       INTEGER NOT NULL DEFAULT 0, -- counts the signs of life
    seconds        REAL    NOT NULL DEFAULT 15, -- how long the lease lasts after one of them
    event_position INTEGER,                    -- the last event that was handled
    event_stream   TEXT,
    event_version  INTEGER,
    event_id       TEXT,
    store_id       TEXT,                       -- of the event store that the position is of
    partitions     INTEGER NOT NULL DEFAULT 0, -- if it is divided, into how many parts
    PRIMARY KEY (name, generation)
) STRICT;

CREATE TABLE IF NOT EXISTS eventport_dead_letters (
    name       TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    stream     TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    type       TEXT    NOT NULL,
    error      TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    at         TEXT    NOT NULL,           -- ISO 8601, UTC
    PRIMARY KEY (name, generation, position)
) STRICT;

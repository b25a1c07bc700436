CREATE TABLE {schema}.migrations (
    version    integer                PRIMARY KEY,
    applied_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- The global order. CACHE must stay 1: positions are taken in the order in which they are used.
CREATE SEQUENCE {schema}.positions AS bigint CACHE 1;

CREATE TABLE {schema}.events (
    position    bigint                                      PRIMARY KEY,
    stream      pg_catalog.text COLLATE pg_catalog."C"      NOT NULL,
    version     bigint                                      NOT NULL,
    type        pg_catalog.text COLLATE pg_catalog."C"      NOT NULL,
    data        pg_catalog.json,  -- as it was appended, to the letter; or else
    binary_data pg_catalog.bytea, -- the bytes that were appended
    metadata    pg_catalog.json                             NOT NULL,
    id          pg_catalog.uuid                             NOT NULL,
    recorded_at pg_catalog.timestamptz                      NOT NULL,
    size        integer                                     NOT NULL, -- the bytes of data and metadata
    UNIQUE (stream, version),
    CHECK (pg_catalog.num_nonnulls(data, binary_data) OPERATOR(pg_catalog.=) 1)
);

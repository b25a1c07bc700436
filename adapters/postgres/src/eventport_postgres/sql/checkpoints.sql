CREATE TABLE IF NOT EXISTS {schema}.projections (
    name       pg_catalog.text NOT NULL,
    generation bigint          NOT NULL,
    position   bigint          NOT NULL DEFAULT 0,
    active     boolean         NOT NULL DEFAULT false, -- of several, the highest generation is
    owner      pg_catalog.text,
    fence      bigint          NOT NULL DEFAULT 0, -- counts the leases; only the last one is good
    PRIMARY KEY (name, generation)
);
CREATE TABLE IF NOT EXISTS {schema}.dead_letters (
    name       pg_catalog.text        NOT NULL,
    generation bigint                 NOT NULL,
    position   bigint                 NOT NULL,
    stream     pg_catalog.text        NOT NULL,
    version    bigint                 NOT NULL,
    type       pg_catalog.text        NOT NULL,
    error      pg_catalog.text        NOT NULL,
    attempts   bigint                 NOT NULL,
    at         pg_catalog.timestamptz NOT NULL,
    PRIMARY KEY (name, generation, position)
);

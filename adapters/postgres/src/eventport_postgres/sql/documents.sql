CREATE TABLE IF NOT EXISTS {schema}.documents (
    collection pg_catalog.text COLLATE pg_catalog."C" NOT NULL, -- the read model, its generation
    key        pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    document   pg_catalog.json NOT NULL,
    PRIMARY KEY (collection, key)
);
CREATE TABLE IF NOT EXISTS {schema}.lookups (
    collection pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    lookup     pg_catalog.text COLLATE pg_catalog."C" NOT NULL, -- a field and its value, or a hash
    key        pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    PRIMARY KEY (collection, lookup, key)
);
CREATE INDEX IF NOT EXISTS lookups_of_keys ON {schema}.lookups (collection, key);

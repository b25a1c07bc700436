-- Bring the sequence up to the events, and make an identity if there is none. Nobody can append
-- while the table is locked, so the sequence cannot move on in between.
LOCK TABLE {schema}.events IN SHARE ROW EXCLUSIVE MODE;
SELECT pg_catalog.setval('{schema}.positions', h.head)
FROM (SELECT pg_catalog.max(position) FROM {schema}.events) AS h(head), {schema}.positions p
WHERE h.head OPERATOR(pg_catalog.>=) p.last_value;
INSERT INTO {schema}.store DEFAULT VALUES ON CONFLICT DO NOTHING;

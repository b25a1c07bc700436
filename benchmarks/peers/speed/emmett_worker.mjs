// Emmett: its store on Postgres, with the pool that it makes by default.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { randomUUID } from 'node:crypto';
import { performance } from 'node:perf_hooks';

const [url, folder] = process.argv.slice(2);
const require = createRequire(folder + '/');
const { getPostgreSQLEventStore } = require('@event-driven-io/emmett-postgresql');
const store = getPostgreSQLEventStore(url);
const DATA = { order: 'o-1', sku: 'abc', quantity: 2, price: 12.5 };

const append = (stream, events) =>
  store.appendToStream(
    stream,
    Array.from({ length: events }, () => ({ type: 'ItemAdded', data: DATA })),
    { expectedStreamVersion: 'STREAM_DOES_NOT_EXIST' },
  );
await store.schema.migrate();
const long = randomUUID();
await append(long, 1000);

const rounds = {
  append: async (tasks, events, count) => {
    const run = randomUUID();
    const each = Math.floor(count / tasks);
    const task = async (name) => {
      for (let index = 0; index < each; index++) await append(`${run}-${name}-${index}`, events);
    };
    await Promise.all(Array.from({ length: tasks }, (_, name) => task(name)));
    return each * tasks * events;
  },
  read: async (count) => {
    let found = 0;
    for (let index = 0; index < count; index++) found += (await store.readStream(long)).events.length;
    return found;
  },
};

console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  const [what, ...numbers] = line.split(' ');
  const start = performance.now();
  const done = await rounds[what](...numbers.map(Number));
  console.log(done, (performance.now() - start) / 1000);
}
await store.close();

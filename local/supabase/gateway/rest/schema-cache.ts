import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Connection, Database } from '../database.ts';
import { type Catalog, readCatalog } from './catalog.ts';
import { RestError } from './errors.ts';

/** How far the cache is behind the schema, as PostgREST's is (its docs, "Schema Cache"). */
export interface CacheDelays {
  /** After a change: what was there before is still served, and what is new is unknown. Default 200. */
  staleMs?: number;
  /** Then, while the schema is read: nothing is served. Default 100. */
  loadingMs?: number;
}

export interface SchemaCache {
  /** Throws PGRST002 while the schema is read. */
  catalog(): Catalog;
  close(): Promise<void>;
}

const STALE_MS = 200;
const LOADING_MS = 100;
const RECONNECT_MS = 250;

export interface SchemaCacheOptions extends CacheDelays {
  connection: Connection;
  database: Database;
  log?: (line: string) => void;
}

/**
 * What the REST half knows of the schema: read at the start, and again when Postgres tells of a change (`notify pgrst`, which every change
 * of the schema sends, see bootstrap.sql). Resolves when it was read once.
 */
export async function openSchemaCache(options: SchemaCacheOptions): Promise<SchemaCache> {
  const { connection, database, staleMs = STALE_MS, loadingMs = LOADING_MS, log } = options;
  const closing = new AbortController();
  const { signal } = closing;
  let current: Catalog | undefined;
  let listener: pg.Client | undefined;
  let reloading: Promise<void> | undefined;
  let again = false;

  const read = () => database.transaction({ role: 'anon', readOnly: true }, readCatalog);

  async function reload(): Promise<void> {
    do {
      again = false;
      await sleep(staleMs, undefined, { signal });
      const before = current;
      current = undefined;
      try {
        const [fresh] = await Promise.all([read(), sleep(loadingMs, undefined, { signal })]);
        current = fresh;
      } finally {
        current ??= before;
      }
    } while (again);
  }

  function changed(): void {
    again = true;
    reloading ??= reload()
      .catch((error: Error) => {
        if (!signal.aborted) log?.(`the schema could not be read: ${error.message}`);
      })
      .finally(() => {
        reloading = undefined;
      });
  }

  async function listen(): Promise<void> {
    const client = new pg.Client({ ...connection, application_name: 'gateway schema cache' });
    client.on('error', () => {}); // The end says it as well.
    client.on('notification', ({ payload }) => {
      if (payload === '' || payload === 'reload schema') changed();
    });
    client.once('end', () => void listenAgain());
    try {
      await client.connect();
      await client.query('listen pgrst');
      listener = client;
    } catch (error) {
      client.removeAllListeners('end');
      await client.end().catch(() => {});
      throw error;
    }
  }

  /** Whatever changed while nobody listened was not heard. */
  async function listenAgain(): Promise<void> {
    while (!signal.aborted) {
      await sleep(RECONNECT_MS, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return;
      const listening = await listen().then(
        () => true,
        () => false,
      );
      if (listening) return changed();
    }
  }

  // In this order, so that no change is missed.
  await listen();
  current = await read();
  return {
    catalog() {
      if (current !== undefined) return current;
      throw new RestError(503, 'PGRST002', 'Could not query the database for the schema cache. Retrying.');
    },
    async close() {
      closing.abort();
      await reloading;
      await listener?.end().catch(() => {});
    },
  };
}

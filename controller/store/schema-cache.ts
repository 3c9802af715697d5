import { backoff, pause } from '../sessions/pause.ts';

export interface Patience {
  /** Milliseconds that never go back. */
  clock: () => number;
  /** In [0, 1). */
  random: () => number;
  /** Ends early when the signal says so. */
  sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
}

/**
 * After a migration PostgREST reads the schema anew: while it does (PGRST002), and until then of functions and tables that it has not seen
 * (PGRST202, PGRST205), it refuses what will be taken a moment later. Nothing was done (PostgREST docs, "Schema Cache").
 */
const UNKNOWN: ReadonlySet<string | undefined> = new Set(['PGRST202', 'PGRST205']);
const BEING_READ = 'PGRST002';
/** A schema of thousands of objects takes PostgREST seconds to read, and it may have been told late. */
export const CACHE_DEADLINE_MS = 30_000;
const PAUSE_MS = 200;
const MOST_PAUSE_MS = 3_000;

const REAL_TIME: Patience = { clock: () => performance.now(), random: Math.random, sleep: pause };

/** The schema cache of the API does not have what was asked for; after `CACHE_DEADLINE_MS` it is not in the database. */
export function isUnknownToCache(code: string | undefined): boolean {
  return UNKNOWN.has(code);
}

/** `send`, again and again while the answer is one that passes when the schema cache has been read; after the deadline that answer. */
export function throughReload(send: typeof fetch, time: Partial<Patience> = {}): typeof fetch {
  const { clock, random, sleep } = { ...REAL_TIME, ...time };
  return async (input, init = {}) => {
    const ends = clock() + CACHE_DEADLINE_MS;
    for (let attempt = 1; ; attempt++) {
      const answer = await send(input, init);
      if (!(await passes(answer))) return answer;
      const wait = backoff(attempt, random, PAUSE_MS, MOST_PAUSE_MS);
      if (clock() + wait > ends) return answer;
      await sleep(wait, init.signal ?? undefined);
      init.signal?.throwIfAborted();
    }
  };
}

async function passes(answer: Response): Promise<boolean> {
  if (answer.status !== 404 && answer.status !== 503) return false;
  const body: unknown = await answer
    .clone()
    .json()
    .catch(() => undefined);
  const code = (body as { code?: string } | undefined)?.code;
  return code === BEING_READ || isUnknownToCache(code);
}

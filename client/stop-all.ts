import { setTimeout as delay } from 'node:timers/promises';
import type { MobVibeError } from './errors.ts';
import type { MobVibe } from './mobvibe.ts';

export interface StopAllOptions {
  /** For all of it, milliseconds: sessions that are not stopped by then are named in the answer. */
  mostMs: number;
  signal?: AbortSignal;
  /** Default 8. */
  atOnce?: number;
  /** Before their stop is asked for. Called again for those that were opened meanwhile. */
  onBegin?: (ids: string[]) => void;
  onStopped?: (id: string) => void;
}

export interface NotSaved {
  id: string;
  /** What the last try said. */
  why: string;
}

const OPEN = ['ready', 'unresponsive', 'starting', 'stopping'] as const;
/** Queued jobs may open sessions again; after so many looks nobody can say that it would ever end. */
const LOOKS = 5;
const RETRY_MS = 1_000;

/**
 * Stops every session that is open, with its files saved, before a whole stack goes. A save that fails is tried again as long as there is
 * time. Answers those that are not stopped; rejects where the controller can't be asked which are open.
 */
export async function stopAll(mobvibe: MobVibe, options: StopAllOptions): Promise<NotSaved[]> {
  const timeUp = AbortSignal.timeout(options.mostMs);
  const signal = options.signal ? AbortSignal.any([options.signal, timeUp]) : timeUp;
  const left = new Map<string, string>();
  for (let look = 0; look < LOOKS && !signal.aborted; look++) {
    const open = await openSessions(mobvibe, signal).catch((error) => {
      // The time is up in the middle of another look: what is known of the last one stands.
      if (look > 0 && signal.aborted) return [...left.keys()];
      throw error;
    });
    if (signal.aborted) break;
    left.clear();
    if (open.length === 0) break;
    options.onBegin?.(open);
    for (const id of open) left.set(id, 'it was not asked to stop yet');
    await inParallel(open, options.atOnce ?? 8, async (id) => {
      const why = await stopOne(mobvibe, id, signal, (tried) => left.set(id, tried));
      if (why !== null) return;
      left.delete(id);
      options.onStopped?.(id);
    });
  }
  return [...left].map(([id, why]) => ({ id, why }));
}

async function openSessions(mobvibe: MobVibe, signal: AbortSignal): Promise<string[]> {
  const ids = new Set<string>();
  for (const status of OPEN) {
    let cursor: string | undefined;
    do {
      const ask = { status, limit: 200, signal, ...(cursor && { cursor }) };
      const page = await mobvibe.sessions.list(ask).catch((error: MobVibeError) => {
        // A controller of before knows fewer states.
        if (error.code === 'invalid_request' && error.field === 'status')
          return { items: [], nextCursor: null };
        throw error;
      });
      for (const { id } of page.items) ids.add(id);
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
  }
  return [...ids].sort();
}

/** Null when it is stopped. Ends with the signal. */
async function stopOne(
  mobvibe: MobVibe,
  id: string,
  signal: AbortSignal,
  tried: (why: string) => void,
): Promise<string | null> {
  let why = 'it is still being stopped';
  tried(why);
  while (!signal.aborted) {
    try {
      const session = await mobvibe.sessions.get(id, { signal });
      const { status, error, save } = await session.stop({ signal });
      if (status === 'stopped') return null;
      why = (status === 'failed' ? error?.detail : save?.detail) ?? `it is ${status}`;
      if (status === 'failed') {
        tried(why);
        return why;
      }
    } catch (error) {
      const { code, detail } = error as MobVibeError;
      // What the last try said is more than that there was no time for another.
      if (code !== 'aborted') why = detail;
    }
    tried(why);
    await delay(RETRY_MS, undefined, { signal }).catch(() => {});
  }
  return why;
}

async function inParallel<T>(items: T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}

/** `a (why), b (why)`. */
export function listNotSaved(sessions: NotSaved[]): string {
  return sessions.map(({ id, why }) => `${id} (${why})`).join(', ');
}

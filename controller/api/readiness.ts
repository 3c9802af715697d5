import type { ApiDeps } from './deps.ts';

const PROBE_TIMEOUT_MS = 5_000;
/** The route is public and asks other services, so it asks them no more often than this. */
const REMEMBER_MS = 2_000;

export interface Readiness {
  ready: boolean;
  checks: Record<string, 'ok' | 'failed'>;
}

/** Asks everything the controller depends on, at once and with a deadline; callers at the same time share one answer. */
export function createReadiness(probes: ApiDeps['probes'], clock: () => number): () => Promise<Readiness> {
  let latest: { answer: Promise<Readiness>; until: number } | undefined;
  return () => {
    if (latest === undefined || latest.until <= clock()) {
      latest = { answer: probeAll(probes), until: clock() + REMEMBER_MS };
    }
    return latest.answer;
  };
}

async function probeAll(probes: ApiDeps['probes']): Promise<Readiness> {
  const outcomes = await Promise.all(
    Object.entries(probes).map(async ([name, probe]) => [name, await outcome(probe)] as const),
  );
  return { ready: outcomes.every(([, state]) => state === 'ok'), checks: Object.fromEntries(outcomes) };
}

async function outcome(probe: () => Promise<unknown>): Promise<'ok' | 'failed'> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error('no answer in time')), PROBE_TIMEOUT_MS);
  try {
    await Promise.race([probe(), late]);
    return 'ok';
  } catch {
    return 'failed';
  } finally {
    clearTimeout(timer);
  }
}

import type { ApiDeps, Probe, Probes } from './deps.ts';

const PROBE_TIMEOUT_MS = 5_000;
/** The route is public and asks other services, so it asks them no more often than this. */
const REMEMBER_MS = 2_000;

type State = 'ok' | 'failed';

export interface Readiness {
  /** This controller can work. */
  ready: boolean;
  /** What does not answer although it works: starts, saves or restores fail. */
  degraded: Exclude<keyof Probes, 'database'>[];
  checks: Record<string, State>;
}

/** Asks everything the controller depends on, at once and with a deadline; callers at the same time share one answer. */
export function createReadiness(
  probes: ApiDeps['probes'],
  clock: () => number,
  timeoutMs = PROBE_TIMEOUT_MS,
): () => Promise<Readiness> {
  let latest: { answer: Promise<Readiness>; until: number } | undefined;
  return () => {
    if (latest === undefined || latest.until <= clock()) {
      latest = { answer: probeAll(probes, timeoutMs), until: clock() + REMEMBER_MS };
    }
    return latest.answer;
  };
}

async function probeAll(probes: Probes, timeoutMs: number): Promise<Readiness> {
  const outcomes = await Promise.all(
    Object.entries(probes).map(
      async ([name, probe]) => [name as keyof Probes, await outcome(probe, timeoutMs)] as const,
    ),
  );
  const checks = Object.fromEntries(outcomes);
  return {
    // Who takes a controller out of service for more than this makes an outage elsewhere one of its own.
    ready: checks.database === 'ok',
    degraded: outcomes.flatMap(([name, state]) => (name === 'database' || state === 'ok' ? [] : [name])),
    checks,
  };
}

async function outcome(probe: Probe, timeoutMs: number): Promise<State> {
  const over = new AbortController();
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const error = new Error('no answer in time');
    reject(error);
    over.abort(error);
  }, timeoutMs);
  try {
    await Promise.race([probe(over.signal), late]);
    return 'ok';
  } catch {
    return 'failed';
  } finally {
    clearTimeout(timer);
  }
}

import { between, type Random, weighted } from '../random.ts';

/** How often each fault comes, against the others. */
export const FAULTS = {
  controller_killed: 3,
  controller_frozen: 3,
  agent_killed: 2,
  agent_frozen: 2,
  machine_died: 1,
  postgres_killed: 1,
  postgres_frozen: 1,
  supabase_killed: 1,
  supabase_frozen: 1,
  fly_killed: 0.5,
  fly_frozen: 1,
  fly_refuses: 2,
  fly_loses_answers: 2,
  fly_down: 1,
  fly_full: 1,
  fly_lists_nothing: 1,
  machines_stuck: 0.5,
  machines_undying: 3,
  database_refuses: 2,
  database_loses_answers: 3,
  database_slow: 1,
  database_down: 1,
  storage_full: 3,
  storage_refuses: 2,
  storage_hangs: 1,
  storage_breaks_off: 2,
  agents_cut_off: 2,
  controllers_cut_off: 2,
  old_version_damaged: 1,
} as const;

export type FaultKind = keyof typeof FAULTS;

export interface Fault {
  kind: FaultKind;
  /** Milliseconds from the beginning of the run. */
  at: number;
  /** It is over so much later. */
  lasts: number;
  /** In [0, 1): whatever it has to choose. */
  choice: number;
}

/** The first moments are calm, so that there is something to lose. */
const CALM_MS = 3_000;
/** Of one that needs to last, at most; a controller's lease runs out in that time. */
const LONGEST_MS = 6_000;

/** Against these only patience helps: it has to be shown. */
const LONG: ReadonlySet<FaultKind> = new Set(['machines_undying', 'storage_full']);

/** What befalls a run of so many seconds. Pure: the same numbers give the same faults. The last is over when the time is. */
export function schedule(random: Random, seconds: number): Fault[] {
  const faults: Fault[] = [];
  const end = seconds * 1000;
  for (let at = CALM_MS; at < end; at += between(random, 500, 4_500)) {
    const kind = weighted(random, FAULTS);
    const lasts = between(random, 300, LONG.has(kind) ? 2 * LONGEST_MS : LONGEST_MS);
    const choice = random();
    if (at + lasts <= end) faults.push({ kind, at, lasts, choice });
  }
  return faults;
}

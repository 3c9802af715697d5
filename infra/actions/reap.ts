/**
 * Destroys every machine of a cell and waits until the cell is empty. Runs when the controller is gone, so that nobody makes new ones;
 * still it looks twice, some time apart: an empty list alone is no proof (Fly's incident of 2026-04-28). Fails rather than leave one.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { createFlyClient, type FlyClient, FlyError, type Machine } from '../../fly/index.ts';
import { required, script } from './script.ts';

const REAP_TIMEOUT_MS = 300_000;
const LOOKS = 2;
const LOOKS_APART_MS = 1_000;

await script(async () => {
  const app = required('MOBVIBE_REAP_APP');
  const fly = createFlyClient({ token: required('FLY_API_TOKEN'), baseUrl: process.env.FLY_FLAPS_BASE_URL });
  const signal = AbortSignal.timeout(REAP_TIMEOUT_MS);
  const destroyed = new Set<string>();
  try {
    for (let empty = 0; empty < LOOKS; ) {
      if (destroyed.size > 0 || empty > 0) await pause(LOOKS_APART_MS, undefined, { signal });
      const machines = await alive(fly, app, signal);
      empty = machines.length === 0 ? empty + 1 : 0;
      for (const { id } of machines) {
        await fly.destroyMachine(app, id, { force: true, signal });
        destroyed.add(id);
      }
    }
  } finally {
    fly.close();
  }
  return { app, destroyed: destroyed.size };
});

async function alive(fly: FlyClient, app: string, signal: AbortSignal): Promise<Machine[]> {
  try {
    const all = await fly.listMachines(app, { signal });
    return all.filter(({ state }) => state !== 'destroyed');
  } catch (error) {
    // The app was deleted by hand, and its machines with it.
    if (error instanceof FlyError && error.kind === 'not_found') return [];
    throw error;
  }
}

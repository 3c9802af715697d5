/**
 * Before a stack goes: stops all its sessions through the API, so that their files are saved, then asks the controller's machines to drain
 * (SIGTERM) and waits until they have stopped. Fails, and with it the destroy, where files could not be saved, unless whoever destroys says
 * that they may be lost. The draining itself is a courtesy with a limit: that no sandbox is left is `reap`'s work.
 */
import { MobVibe, type MobVibeError } from '../../client/index.ts';
import { listNotSaved, type NotSaved, stopAll } from '../../client/stop-all.ts';
import { createFlyClient } from '../../fly/index.ts';
import { required, say, script } from './script.ts';

/** `MOBVIBE_STOP_SESSIONS_MS` is for tests. */
const STOP_MS = Number(process.env.MOBVIBE_STOP_SESSIONS_MS ?? 600_000);
/** Where what can't be saved may go, nobody waits for it. */
const STOP_OR_DISCARD_MS = Math.min(STOP_MS, 60_000);
const STOPS_AT_ONCE = 8;
const DRAIN_TIMEOUT_MS = 90_000;
const OR_DISCARD =
  'Or give up what is not saved: MOBVIBE_DISCARD_UNSAVED=true pulumi destroy (for good: pulumi config set discardUnsaved true)';

await script(async () => {
  const app = required('MOBVIBE_DRAIN_APP');
  const mayDiscard = process.env.MOBVIBE_DISCARD_UNSAVED === 'true';
  const sessions = await stopSessions(mayDiscard);
  return { app, ...sessions, drained: await drain(app) };
});

async function stopSessions(mayDiscard: boolean): Promise<{ stopped: number; discarded: string[] }> {
  const { MOBVIBE_URL: url, MOBVIBE_API_KEY: apiKey } = process.env;
  if (!url || !apiKey) {
    return giveUp(
      'This stack does not say where its controller is: it was made by an earlier version, "pulumi up" once.',
      mayDiscard,
    );
  }
  using mobvibe = new MobVibe({ url, apiKey });
  let stopped = 0;
  let left: NotSaved[];
  try {
    left = await stopAll(mobvibe, {
      mostMs: mayDiscard ? STOP_OR_DISCARD_MS : STOP_MS,
      atOnce: STOPS_AT_ONCE,
      onBegin: (ids) => say(`Saving and stopping ${ids.length} sessions`),
      onStopped: () => {
        stopped += 1;
      },
    });
  } catch (error) {
    const { detail, message } = error as MobVibeError;
    return giveUp(
      `The controllers at ${url} can't be asked to save what is open: ${detail ?? message}.`,
      mayDiscard,
    );
  }
  if (left.length === 0) return { stopped, discarded: [] };
  const notSaved = `Files of ${left.length} sessions could not be saved: ${listNotSaved(left)}.`;
  if (!mayDiscard) throw new Error(`${notSaved} ${OR_DISCARD}`);
  say(`${notSaved} They are given up.`);
  // Said to the controllers as well, so that each session says what became of it.
  await Promise.allSettled(
    left.map(async ({ id }) => (await mobvibe.sessions.get(id)).stop({ discardUnsaved: true, waitMs: 0 })),
  );
  return { stopped, discarded: left.map(({ id }) => id) };
}

function giveUp(why: string, mayDiscard: boolean): { stopped: number; discarded: string[] } {
  if (!mayDiscard) throw new Error(`${why} ${OR_DISCARD}`);
  say(`${why} What is not saved is given up.`);
  return { stopped: 0, discarded: [] };
}

/** How many of the controller's machines have stopped when they were asked to. */
async function drain(app: string): Promise<number> {
  const fly = createFlyClient({ token: required('FLY_API_TOKEN'), baseUrl: process.env.FLY_FLAPS_BASE_URL });
  const signal = AbortSignal.timeout(DRAIN_TIMEOUT_MS);
  let drained = 0;
  try {
    for (const { id, state } of await fly.listMachines(app, { signal })) {
      if (state !== 'started') continue;
      await fly.stopMachine(app, id, { signal });
      await fly.waitForState(app, id, 'stopped', { signal, timeoutMs: DRAIN_TIMEOUT_MS });
      drained++;
    }
  } catch (error) {
    say(`${app} was not drained: ${(error as Error).message}`);
  } finally {
    fly.close();
  }
  return drained;
}

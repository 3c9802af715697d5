/**
 * Asks the controller's machines to drain (SIGTERM) and waits until they have stopped, before they are deleted. A courtesy with a limit:
 * one that can't be reached must not keep a stack alive; that no sandbox is left is `reap`'s work.
 */
import { createFlyClient } from '../../fly/index.ts';
import { required, say, script } from './script.ts';

const DRAIN_TIMEOUT_MS = 90_000;

await script(async () => {
  const app = required('MOBVIBE_DRAIN_APP');
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
  return { app, drained };
});

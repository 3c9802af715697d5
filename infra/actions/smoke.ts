/** Proves a deploy: opens a session, runs a command in it, stops it. Prints how long each took. */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { MobVibe } from '../../client/index.ts';
import { required, say, script } from './script.ts';

const READY_TIMEOUT_MS = 180_000;
const LOOK_EVERY_MS = 1_000;
const SESSION_TIMEOUT_MS = 180_000;

await script(async () => {
  const url = required('MOBVIBE_URL');
  await answers(`${url}/readyz`, AbortSignal.timeout(READY_TIMEOUT_MS));

  using mobvibe = new MobVibe({ url, apiKey: required('MOBVIBE_API_KEY') });
  const began = performance.now();
  await using session = await mobvibe.sessions.create({
    id: `smoke-${randomBytes(4).toString('hex')}`,
    waitMs: SESSION_TIMEOUT_MS,
    timeoutMs: SESSION_TIMEOUT_MS,
  });
  const created = performance.now();
  const { exitCode, stdout } = await session.exec('echo ready', { timeoutMs: 30_000 });
  if (exitCode !== 0 || stdout.trim() !== 'ready') {
    throw new Error(`the command "echo ready" ended with ${exitCode} and said ${JSON.stringify(stdout)}`);
  }
  return { createMs: Math.round(created - began), execMs: Math.round(performance.now() - created) };
});

/** A new address may need a while until it leads somewhere. */
async function answers(probe: string, signal: AbortSignal): Promise<void> {
  for (let last = ''; ; await pause(LOOK_EVERY_MS, undefined, { signal }).catch(() => {})) {
    if (signal.aborted)
      throw new Error(`${probe} did not answer as it should within ${READY_TIMEOUT_MS / 1000} s: ${last}`);
    try {
      const response = await fetch(probe, { signal: AbortSignal.any([signal, AbortSignal.timeout(10_000)]) });
      if (response.ok) return;
      last = `status ${response.status}`;
    } catch (error) {
      last = (error as Error).message;
    }
    say(`${probe}: ${last}`);
  }
}

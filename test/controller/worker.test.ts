import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { CodedError } from '../../controller/errors.ts';
import { SandboxWorker, type WorkerDeps } from '../../controller/sessions/worker.ts';
import type { SandboxRow } from '../../controller/store/rows.ts';
import { TIMES } from './world.ts';

it('a worker whose every write is refused gives up, for the next clean-up to look at it', async () => {
  let reads = 0;
  const row = {
    name: 's-a-1',
    session_id: 'a',
    state: 'stopping',
    reason: 'x',
    updated_at: '',
  } as SandboxRow;
  const deps = {
    store: {
      findSandbox: async () => {
        reads += 1;
        await turn();
        return row;
      },
      sandboxSealing: async () => row,
    },
    hub: { waitFor: async () => ({}) },
    files: {
      seal: async () => ({ terminated: 0, killed: 0 }),
      save: async () => {
        throw new CodedError('fenced', 'never yours');
      },
    },
    times: { ...TIMES, retryMs: 1, startTimeoutMs: 1_000 },
    log: pino({ level: 'silent' }),
    clock: () => 0,
    random: () => 0,
  } as unknown as WorkerDeps;
  await new SandboxWorker(deps, row.name, new AbortController().signal).run();
  expect(reads).toBe(20);
});

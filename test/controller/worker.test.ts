import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { CodedError } from '../../controller/errors.ts';
import { SandboxWorker, type WorkerDeps } from '../../controller/sessions/worker.ts';
import type { SandboxRow } from '../../controller/store/rows.ts';
import { type FlyErrorKind, flyError } from '../../fly/index.ts';
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

describe('a start whose create fails until its time is over', () => {
  const row = {
    name: 's-a-1',
    session_id: 'a',
    state: 'planned',
    machine_id: null,
    created_at: new Date(0).toISOString(),
  } as SandboxRow;

  /** How often the machine was looked for before the row was gone. `isNew`: the row was made for this worker. */
  async function looks(kind: FlyErrorKind, isNew: boolean): Promise<number> {
    let found = 0;
    let now = 0;
    let last = row;
    const move = (state: SandboxRow['state']) => async (_row: SandboxRow, reason: string) => {
      last = { ...last, state, reason };
      return last;
    };
    const deps = {
      store: {
        findSandbox: async () => last,
        getSession: async () => ({ settings: {} }),
        sandboxDestroying: move('destroying'),
        sandboxGone: move('gone'),
        findDestroyingReason: async () => null,
      },
      machines: {
        create: async () => {
          now += 400;
          throw flyError(kind, { call: 'createMachine', detail: 'x' });
        },
        find: async () => {
          found += 1;
          return undefined;
        },
      },
      hub: { get: () => undefined, drop: () => undefined },
      times: { ...TIMES, lookApartMs: 1, retryMs: 1, startTimeoutMs: 1_000 },
      guard: () => undefined,
      onChange: () => undefined,
      log: pino({ level: 'silent' }),
      clock: () => now,
      random: () => 0,
    } as unknown as WorkerDeps;
    await new SandboxWorker(deps, row.name, new AbortController().signal).run(isNew ? row : undefined);
    expect(last.state).toBe('gone');
    return found;
  }

  it.each<[string, FlyErrorKind, boolean, number]>([
    ['not when none was ever sent', 'rate', true, 0],
    ['nor when Fly refused each', 'capacity', true, 0],
    ['twice when the outcome of one is not known', 'unknown_outcome', true, 2],
    ['twice when somebody else may have sent one before', 'rate', false, 2],
  ])('its machine is looked for: %s', async (_what, kind, isNew, times) => {
    expect(await looks(kind, isNew)).toBe(times);
  });
});

import { EventEmitter } from 'node:events';
import { pino } from 'pino';
import { afterEach, expect, it } from 'vitest';
import { CodedError } from '../../controller/errors.ts';
import { SaveLedger } from '../../controller/files/ledger.ts';
import { PeriodicSave } from '../../controller/files/periodic.ts';
import type { SandboxRow } from '../../controller/store/rows.ts';

const row = (name: string, app: string, state: SandboxRow['state'] = 'ready') =>
  ({ name, app, state, created_at: '2026-11-28T00:00:00Z', ready_at: null }) as SandboxRow;

/** Saves that the test lets end, of two cells. */
function saves(options: { connected?: (name: string) => Promise<unknown> } = {}) {
  const lost = { a: new AbortController(), b: new AbortController() };
  const under = new Map<string, AbortSignal>();
  const ends = new Map<string, PromiseWithResolvers<never>>();
  const changes = new EventEmitter<{ change: [row: SandboxRow] }>();
  const calls: string[] = [];
  const live = [row('one', 'a'), row('two', 'b'), row('leaving', 'a', 'stopping')];
  const ledger = new SaveLedger();
  const periodic = new PeriodicSave({
    store: { listLiveSandboxes: async (app) => live.filter((one) => one.app === app) },
    hub: { waitFor: (async (name: string) => options.connected?.(name)) as never },
    files: {
      ledger,
      save: (sandbox, { signal } = {}) => {
        calls.push(sandbox.name);
        under.set(sandbox.name, signal!);
        const end = Promise.withResolvers<never>();
        ends.set(sandbox.name, end);
        signal!.addEventListener('abort', () => end.reject(signal!.reason));
        return end.promise;
      },
    },
    cells: {
      apps: ['a', 'b'],
      holds: (app) => !lost[app as 'a' | 'b'].signal.aborted,
      signal: (app) => lost[app as 'a' | 'b'].signal,
    },
    changes,
    config: { saveIntervalMs: 3_600_000 },
    log: pino({ level: 'silent' }),
    clock: () => Date.parse('2026-11-28T00:01:00Z'),
    random: () => 0,
  });
  started.push(periodic);
  periodic.start();
  return { lost, under, ends, changes, calls, periodic, ledger };
}

const started: PeriodicSave[] = [];
afterEach(async () => {
  for (const periodic of started.splice(0)) await periodic.stop(0);
});

it('saves every sandbox that is ready, and none that is being stopped', async () => {
  const { calls, ledger } = saves();
  await expect.poll(() => [...calls].sort()).toEqual(['one', 'two']);
  for (const name of ['one', 'two', 'leaving']) ledger.failed(row(name, 'a'), 0);
  expect(ledger.failing).toBe(3);
});

it('breaks off at once what belongs to a cell that is another controller’s now', async () => {
  const { lost, under } = saves();
  await expect.poll(() => under.size).toBe(2);
  lost.a.abort(new CodedError('fenced', 'the cell is not held'));
  expect([under.get('one')!.aborted, under.get('two')!.aborted]).toEqual([true, false]);
});

it('takes up a sandbox as soon as it is ready, and leaves it as soon as it is not', async () => {
  const { changes, under, ledger } = saves();
  changes.emit('change', row('new', 'b'));
  await expect.poll(() => under.has('new')).toBe(true);
  ledger.failed(row('new', 'b'), 0);
  changes.emit('change', row('new', 'b', 'destroying'));
  expect(under.get('new')!.aborted).toBe(true);
  expect(ledger.failing).toBe(0);
});

it('does not ask an agent that is not there', async () => {
  const dialed = Promise.withResolvers<void>();
  const { calls } = saves({ connected: (name) => (name === 'one' ? dialed.promise : Promise.resolve()) });
  await expect.poll(() => calls).toEqual(['two']);
  dialed.resolve();
  await expect.poll(() => calls).toEqual(['two', 'one']);
});

it('ends when its time is over, though a save goes on', async () => {
  const { under, periodic, changes, calls } = saves();
  await expect.poll(() => under.size).toBe(2);
  await periodic.stop(1);
  expect([...under.values()].every(({ aborted }) => aborted)).toBe(true);
  changes.emit('change', row('late', 'a'));
  expect(calls).not.toContain('late');
});

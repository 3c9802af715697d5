import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { Retention } from '../../controller/sessions/retention.ts';

/** A database with so many old rows. */
function start({ rows = 0, apps = ['cell'], broken = 0 } = {}) {
  const state = { rows, apps, broken, calls: [] as number[] };
  const retention = new Retention(
    {
      store: {
        purge: async (keepMs, limit) => {
          expect(keepMs).toBe(86_400_000);
          state.calls.push(limit);
          if (state.broken-- > 0) throw new Error('the database is away');
          const removed = Math.min(limit, state.rows);
          state.rows -= removed;
          return removed;
        },
      },
      cells: {
        get apps() {
          return state.apps;
        },
      },
      config: { retentionMs: 86_400_000 },
      log: pino({ level: 'silent' }),
      random: () => 0.5,
    },
    5,
  );
  running.push(retention);
  return { retention, state };
}
const running: Retention[] = [];
afterEach(() => Promise.all(running.splice(0).map((one) => one.stop())));

describe('what is old', () => {
  it('is removed in batches until one comes back short', async () => {
    const { retention, state } = start({ rows: 2_500 });
    expect(await retention.purge()).toBe(2_500);
    expect(state.calls).toEqual([1_000, 1_000, 1_000]);
    expect(await retention.purge()).toBe(0);
    expect(state.calls).toHaveLength(4);
  });

  it('is removed now and then, whatever failed before', async () => {
    const { retention, state } = start({ rows: 10, broken: 2 });
    retention.start();
    await expect.poll(() => state.rows).toBe(0);
    state.rows = 5;
    await expect.poll(() => state.rows).toBe(0);
  });

  it('is left to others by who works for no cell', async () => {
    const { retention, state } = start({ rows: 10, apps: [] });
    retention.start();
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(state.calls).toEqual([]);
    state.apps = ['cell'];
    await expect.poll(() => state.rows).toBe(0);
  });

  it('stays where the work ends', async () => {
    const { retention, state } = start({ rows: 1e9 });
    retention.start();
    await expect.poll(() => state.calls.length).toBeGreaterThan(0);
    await retention.stop();
    const { length } = state.calls;
    await new Promise((resolve) => setTimeout(resolve, 120));
    expect(state.calls).toHaveLength(length);
  });
});

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Controller } from '../../controller/controller.ts';
import { type CrashPoint, CrashProxy } from './crash-proxy.ts';
import { World } from './world.ts';

/** MOBVIBE_TEST_CRASHES=all tries both sides of every request; by default each request is tried on one side, in turn. */
const ALL = process.env.MOBVIBE_TEST_CRASHES === 'all';
const AT_ONCE = 10;
const WORK = 'the only copy of an hour of work';

const STEPS = [
  ...[
    'session_open',
    'sandbox_created',
    'sandbox_ready',
    'session_stop',
    'manifest_commit',
    'sandbox_destroying',
    'sandbox_gone',
  ].map((name) => `POST /rest/v1/rpc/${name}`),
  'POST /v1/apps/APP/machines',
  'DELETE /v1/apps/APP/machines/ID',
];

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

/** Opens the session, works in it, stops it; resolves early where the controller dies. */
async function work({ manager }: Controller, id: string): Promise<void> {
  await manager.createSandbox({ sessionId: id });
  world.running(`s-${id}-1`).inside.files.set('work.txt', WORK);
  await manager.destroySandbox(id);
}

/** Whether the controller died before it had finished. */
async function dieAt(app: string, id: string, point: CrashPoint): Promise<string | undefined> {
  const proxy = new CrashProxy();
  const env = {
    FLY_FLAPS_BASE_URL: await proxy.to(world.fly.url),
    SUPABASE_URL: await proxy.to(world.supabase.url),
    MOBVIBE_JOB_POLL_MS: '60000',
  };
  const doomed = await world.controller(app, { env });
  proxy.arm(point);
  await Promise.race([work(doomed, id).catch(() => proxy.crashed), proxy.crashed]);
  await world.close(doomed);
  await proxy.close();
  return proxy.diedAt;
}

/** A controller that knows nothing of the first brings everything to rest, and nothing is lost, left or doubled. */
async function converge(app: string, id: string): Promise<void> {
  const next = await world.controller(app, { env: { MOBVIBE_CLEANUP_INTERVAL_MS: '200' } });
  await world.until(async () => {
    const live = await world.store.listLiveSandboxes(app);
    return live.every(({ state, name }) => state === 'ready' && next.hub.get(name) !== undefined);
  });
  const session = await world.store.findSession(id);
  if (session === null) return expect(await world.live(app)).toEqual([]);

  const rows = await world.store.listLiveSandboxes(app);
  expect((await world.live(app)).map((machine) => machine.id)).toEqual(rows.map((row) => row.machine_id));
  const wasWritten = world.machines.get(`s-${id}-1`)?.inside.files.has('work.txt');
  if (session.status !== 'ready') await next.lifecycle.startSandbox(id);
  const newest = (await world.sandboxes(id)).at(-1)!;
  if (wasWritten) expect(world.running(newest.name).inside.files.get('work.txt')).toBe(WORK);

  expect(await next.manager.destroySandbox(id)).toMatchObject({ status: 'stopped', error: null });
  expect(await world.live(app)).toEqual([]);
  // One machine for each incarnation, whatever was lost on the way.
  const boots = world.boots.filter((name) => name.startsWith(`s-${id}-`));
  expect(new Set(boots).size).toBe(boots.length);
}

/** One crash and what follows it; where the controller died, or undefined where it had finished before. */
async function crash(point: CrashPoint): Promise<string | undefined> {
  const id = `c${point.call}-${point.when}`;
  const app = await world.app();
  const died = await dieAt(app, id, point);
  try {
    await converge(app, id);
  } catch (error) {
    throw new Error(`crash ${point.when} request ${point.call}: ${died}`, { cause: error });
  }
  return died?.replace(/\/machines\/[0-9a-f]+/, '/machines/ID').replace(app, 'APP');
}

describe('a controller that dies', () => {
  it('at any request of a start and a stop leaves nothing that the next one can’t take up', async () => {
    const places = new Set<string>();
    let finished = false;
    for (let first = 1; !finished; first += AT_ONCE) {
      const calls = Array.from({ length: AT_ONCE }, (_, n) => first + n);
      const points = calls.flatMap((call): CrashPoint[] =>
        ALL
          ? [
              { call, when: 'before' },
              { call, when: 'after' },
            ]
          : [{ call, when: call % 2 === 0 ? 'before' : 'after' }],
      );
      for (const died of await Promise.all(points.map(crash))) {
        if (died === undefined) finished = true;
        else places.add(died);
      }
      await world.closeAll();
    }
    // The run has come past every step there is.
    for (const step of STEPS) expect(places).toContain(step);
  }, 120_000);
});

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Controller } from '../../controller/controller.ts';
import { type CrashPoint, CrashProxy } from './crash-proxy.ts';
import { TIMES, World } from './world.ts';

/** MOBVIBE_TEST_CRASHES=all tries both sides of every request; by default each request is tried on one side, in turn. */
const ALL = process.env.MOBVIBE_TEST_CRASHES === 'all';
const AT_ONCE = 10;
const WORK = 'the only copy of an hour of work';

/** Every request that changes something. */
const STEPS: [name: string, request: RegExp][] = [
  ...[
    'session_open',
    'sandbox_created',
    'sandbox_ready',
    'session_stop',
    'sandbox_sealing',
    'manifest_commit',
    'sandbox_destroying',
    'sandbox_gone',
  ].map((name): [string, RegExp] => [name, new RegExp(`^POST /rest/v1/rpc/${name}$`)]),
  ['the create of the machine', /^POST \/v1\/apps\/[^/]+\/machines$/],
  ['its destroy', /^DELETE \/v1\/apps\/[^/]+\/machines\/[^/]+$/],
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
  const doomed = await world.controller(app, { env, times: TIMES });
  proxy.arm(point);
  await Promise.race([work(doomed, id).catch(() => proxy.crashed), proxy.crashed]);
  await world.close(doomed);
  await proxy.close();
  return proxy.diedAt;
}

/** A controller that knows nothing of the first brings everything to rest, and nothing is lost, left or doubled. */
async function converge(app: string, id: string): Promise<void> {
  const env = { MOBVIBE_CLEANUP_INTERVAL_MS: '200' };
  const next = await world.controller(app, { env, times: TIMES });
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
async function crash(id: string, point: CrashPoint): Promise<string | undefined> {
  const app = await world.app();
  const died = await dieAt(app, id, point);
  try {
    await converge(app, id);
  } catch (error) {
    const events = await world.store.listSessionEvents(id, { limit: 100 });
    const story = events.map(({ at, kind, sandbox, reason }) => `${at} ${kind} ${sandbox} ${reason ?? ''}`);
    throw new Error([`crash ${point.when} ${point.at}: ${died}`, ...story].join('\n'), { cause: error });
  }
  return died;
}

describe('a controller that dies leaves nothing that the next one can’t take up', () => {
  it('at any request of a start and a stop', async () => {
    let finished = false;
    for (let first = 1; !finished; first += AT_ONCE) {
      const calls = Array.from({ length: AT_ONCE }, (_, n) => first + n);
      const points = calls.flatMap((at): CrashPoint[] =>
        ALL
          ? [
              { at, when: 'before' },
              { at, when: 'after' },
            ]
          : [{ at, when: at % 2 === 0 ? 'before' : 'after' }],
      );
      const died = await Promise.all(points.map((point) => crash(`c${point.at}-${point.when}`, point)));
      finished = died.includes(undefined);
      await world.closeAll();
    }
  }, 120_000);

  it.each(['before', 'after'] as const)('%s any step that changes something', async (when) => {
    const died = await Promise.all(STEPS.map(([, at], n) => crash(`step-${n}-${when}`, { at, when })));
    for (const [n, [name, at]] of STEPS.entries()) expect(died[n], name).toMatch(at);
  });
});

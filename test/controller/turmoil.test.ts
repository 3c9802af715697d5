import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { Fleet, type Member } from './fleet.ts';
import { World } from './world.ts';

/** MOBVIBE_TEST_SEED repeats a run; MOBVIBE_TEST_TURNS makes it longer. */
const SEED = Number(process.env.MOBVIBE_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const TURNS = Number(process.env.MOBVIBE_TEST_TURNS ?? 12);
const SESSIONS = ['t-1', 't-2', 't-3', 't-4'];

let world: World;
let fleet: Fleet;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => fleet?.end());
afterAll(() => world.end());

/** mulberry32: the same numbers for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

it(`controllers that come and go at any time leave each session one machine and all its files (seed ${SEED})`, async () => {
  const random = randomFrom(SEED);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const story: string[] = [];
  fleet = await Fleet.start(world, { cells: 3, leaseMs: 800 });
  const members: Member[] = [await fleet.spawn(), await fleet.spawn()];
  /** What was written into each session before it was last known to be ready. */
  const written = new Map<string, string>();

  const replace = async (signal: 'SIGKILL' | 'SIGTERM') => {
    const going = members.splice(Math.floor(random() * members.length), 1)[0]!;
    going.child.kill(signal);
    const code = await going.exit;
    if (signal === 'SIGTERM') expect(code).toBe(0);
    fleet.leave(going.url);
    members.push(await fleet.spawn());
  };
  const change = async (id: string, turn: number) => {
    const session = await fleet.mobvibe.sessions.create({ id });
    const row = (await world.sandboxes(id)).at(-1)!;
    written.set(id, `turn ${turn}`);
    world.running(row.name).inside.files.set('work', `turn ${turn}`);
    if (random() < 0.5) await session.stop();
  };

  try {
    for (let turn = 0; turn < TURNS; turn++) {
      const [id, other] = [pick(SESSIONS), pick(SESSIONS)];
      const signal = pick(['SIGKILL', 'SIGTERM'] as const);
      story.push(`${turn}: ${signal}, ${id}, ${other}`);
      // A session's changes may fail while controllers go; one that is asked for again must come to an end.
      await Promise.all([
        replace(signal),
        ...[...new Set([id, other])].map((one) =>
          change(one, turn).catch((error: Error) => story.push(`   ${one}: ${error.message}`)),
        ),
      ]);
    }
    const atRest = async () =>
      (await Promise.all(fleet.cells.map((app) => world.store.listLiveSandboxes(app))))
        .flat()
        .every(({ state }) => state === 'ready');
    await world.until(atRest);
    const rows = (await Promise.all(fleet.cells.map((app) => world.store.listLiveSandboxes(app)))).flat();
    const machines = (await Promise.all(fleet.cells.map((app) => world.live(app)))).flat();
    expect(machines.map(({ id }) => id).sort()).toEqual(rows.map(({ machine_id }) => machine_id).sort());
    expect(new Set(world.boots).size).toBe(world.boots.length);
    for (const [id, text] of written) {
      const session = await fleet.mobvibe.sessions.create({ id });
      expect(await session.exec(`echo ${id}`)).toMatchObject({ stdout: `${id}\n` });
      const row = (await world.sandboxes(id)).at(-1)!;
      expect(world.running(row.name).inside.files.get('work')).toBe(text);
      await session.stop();
    }
    for (const app of fleet.cells) expect(await world.live(app)).toEqual([]);
  } catch (error) {
    throw new Error(`seed ${SEED}\n${story.join('\n')}`, { cause: error });
  }
}, 180_000);

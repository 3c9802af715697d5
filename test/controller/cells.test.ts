import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Controller } from '../../controller/controller.ts';
import { type CellView, chooseCell } from '../../controller/sessions/cells.ts';
import { CrashProxy } from './crash-proxy.ts';
import { FLY_TOKEN, World } from './world.ts';

describe('chooseCell', () => {
  const cell = (app: string, sandboxes: number, answers = true, retryAfterMs = 0): CellView => ({
    app,
    sandboxes,
    answers,
    retryAfterMs,
  });

  it.each<[string, CellView[], string]>([
    ['the only one', [cell('a', 9)], 'a'],
    ['the one with the fewest sandboxes', [cell('a', 3), cell('b', 1), cell('c', 2)], 'b'],
    ['the first of equals', [cell('a', 2), cell('b', 1), cell('c', 1)], 'b'],
    ['not one that does not answer', [cell('a', 0, false), cell('b', 5)], 'b'],
    ['not one that is full', [cell('a', 0, true, 5_000), cell('b', 5)], 'b'],
    ['the first to have room where all are full', [cell('a', 0, true, 5_000), cell('b', 5, true, 10)], 'b'],
    ['a full one before one that does not answer', [cell('a', 0, false), cell('b', 5, true, 10)], 'b'],
    ['the fewest where none answers', [cell('a', 4, false), cell('b', 3, false)], 'b'],
  ])('takes %s', (_what, cells, chosen) => {
    expect(chooseCell(cells)).toBe(chosen);
  });

  it('never lets two cells that answer differ by more than one, whatever they began with', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 0, max: 60 }), (count, starts) => {
        const cells = Array.from({ length: count }, (_, n) => cell(`c${n}`, 0));
        for (let n = 0; n < starts; n++) {
          const app = chooseCell(cells);
          cells.find((one) => one.app === app)!.sandboxes += 1;
        }
        const sizes = cells.map(({ sandboxes }) => sandboxes);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('does not choose from none', () => {
    expect(() => chooseCell([])).toThrow('no cell');
  });
});

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

const OFTEN = { MOBVIBE_CLEANUP_INTERVAL_MS: '100' };
const apps = (count: number) => Promise.all(Array.from({ length: count }, () => world.app()));
const names = async (app: string) => (await world.live(app)).map(({ name }) => name).sort();
const open = ({ manager }: Controller, ...ids: string[]) =>
  Promise.all(ids.map((sessionId) => manager.createSandbox({ sessionId })));

describe('one controller with several cells', () => {
  it('spreads the sandboxes over them, those that start at the same time as well', async () => {
    const cells = await apps(3);
    const controller = await world.controller(cells);
    await open(controller, 'sp-1');
    await open(controller, 'sp-2', 'sp-3', 'sp-4', 'sp-5', 'sp-6');
    for (const app of cells) expect(await world.live(app)).toHaveLength(2);
    for (const n of [1, 2, 3, 4, 5, 6]) {
      expect(await controller.manager.execCommand(`sp-${n}`, `echo ${n}`)).toMatchObject({
        stdout: `${n}\n`,
      });
    }
  });

  it('goes by what lives there when it starts anew, and by what has ended since', async () => {
    const cells = await apps(2);
    const first = await world.controller(cells);
    for (const id of ['anew-1', 'anew-2', 'anew-3']) await open(first, id);
    await first.manager.destroySandbox('anew-2');
    await world.close(first);
    const fuller = (await world.sandboxes('anew-1'))[0]!.app;
    expect(await names(fuller)).toEqual(['s-anew-1-1', 's-anew-3-1']);

    const next = await world.controller(cells, { env: OFTEN });
    await world.until(() => cells.every((app) => next.cells.size(app) === (app === fuller ? 2 : 0)));
    await open(next, 'anew-4', 'anew-5');
    for (const app of cells) expect(await world.live(app)).toHaveLength(2);
  });

  it('saves, stops and cleans up in each, by the app of the row', async () => {
    const cells = await apps(2);
    let ahead = 0;
    const controller = await world.controller(cells, {
      env: { ...OFTEN, MOBVIBE_SAVE_INTERVAL_MS: '1000' },
      databaseTime: () => Date.now() + ahead,
    });
    await open(controller, 'each-1', 'each-2');
    for (const n of [1, 2]) world.running(`s-each-${n}-1`).inside.files.set('a', `of ${n}`);
    await world.until(async () =>
      (await Promise.all([1, 2].map((n) => world.store.getSession(`each-${n}`)))).every(
        ({ head }) => head > 0,
      ),
    );
    ahead = 31 * 60_000;
    await world.until(async () =>
      (await Promise.all([1, 2].map((n) => world.store.getSession(`each-${n}`)))).every(
        ({ status }) => status === 'stopped',
      ),
    );
    for (const app of cells) expect(await world.live(app)).toEqual([]);
  });

  it('is not stopped by one that fails: the other is cleaned up, and sandboxes start there', async () => {
    const [broken, sound] = await apps(2);
    const controller = await world.controller([broken!, sound!], { env: OFTEN });
    await open(controller, 'half-1');
    await open(controller, 'half-2');
    world.fly.faults.add({
      ...{ kind: 'answer', action: 'machine.list', app: broken!, times: 1_000_000 },
      ...{ status: 500, error: 'this cell is in trouble' },
    });
    await world.until(() => !controller.cells.answers(broken!));
    await open(controller, 'half-3');
    await open(controller, 'half-4');
    expect(await names(sound!)).toEqual(['s-half-2-1', 's-half-3-1', 's-half-4-1']);
    world.running('s-half-4-1').machine.exit();
    await world.until(async () => (await world.store.getSession('half-4')).status === 'failed');
    // What was started in the cell before is not given up.
    expect(await controller.manager.execCommand('half-1', 'echo on')).toMatchObject({ stdout: 'on\n' });
    world.fly.faults.clear();
    await world.until(() => controller.cells.answers(broken!));
    await open(controller, 'half-5');
    expect(await names(broken!)).toEqual(['s-half-1-1', 's-half-5-1']);
  });

  it('is asked about by readiness as one: Fly answers while any cell does', async () => {
    const [there] = await apps(1);
    const controller = await world.controller([there!, 'never-made']);
    const degraded = async ({ url }: { url: string }) => {
      const answer = await fetch(`${url}/readyz`);
      return [answer.status, ((await answer.json()) as { degraded: string[] }).degraded];
    };
    expect(await degraded(controller)).toEqual([200, []]);
    const lost = await world.controller(['never-made', 'nor-this']);
    expect(await degraded(lost)).toEqual([200, ['fly']]);
  });
});

describe('a cell that is named no more', () => {
  it('takes no new sandbox; what lives there goes on, is saved and ends by its age; then it is forgotten', async () => {
    const [kept, closed] = await apps(2);
    const before = await world.controller([kept!, closed!]);
    await open(before, 'cl-1');
    await open(before, 'cl-2');
    expect(await names(closed!)).toEqual(['s-cl-2-1']);
    await world.close(before);

    let ahead = 0;
    const after = await world.controller([kept!], { env: OFTEN, databaseTime: () => Date.now() + ahead });
    await world.until(() => after.cells.apps.includes(closed!));
    expect(await after.manager.execCommand('cl-2', 'echo on')).toMatchObject({ stdout: 'on\n' });
    await open(after, 'cl-3', 'cl-4');
    expect(await names(closed!)).toEqual(['s-cl-2-1']);
    world.running('s-cl-2-1').inside.files.set('work', 'kept');
    ahead = 31 * 60_000;
    await world.until(async () => (await world.store.getSession('cl-2')).status === 'stopped');
    await world.until(() => !after.cells.apps.includes(closed!));
    expect(await world.live(closed!)).toEqual([]);
    ahead = 0;
    await after.lifecycle.startSandbox('cl-2');
    expect(world.running('s-cl-2-2').inside.files.get('work')).toBe('kept');
    expect(await names(kept!)).toContain('s-cl-2-2');
    // Named again, it is a cell as any other.
    await world.close(after);
    const again = await world.controller([kept!, closed!], { env: OFTEN });
    await world.until(() => again.cells.apps.length === 2 && again.cells.size(kept!) === 1);
    await open(again, 'cl-5');
    expect(await names(closed!)).toEqual(['s-cl-5-1']);
  });

  it('is not forgotten while a machine of ours that no row wants is in it', async () => {
    const [kept, closed] = await apps(2);
    await world.close(await world.controller([kept!, closed!], { env: OFTEN }));
    await world.until(async () => (await world.cells(kept!)).length === 2);
    const made = await fetch(`${world.fly.url}/v1/apps/${closed}/machines`, {
      method: 'POST',
      headers: { authorization: `Bearer ${FLY_TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        name: 's-stray-1',
        config: {
          image: 'any:1',
          restart: { policy: 'no' },
          metadata: { mobvibe_stack: kept!, mobvibe_session: 'stray', mobvibe_sandbox: 's-stray-1' },
        },
      }),
    });
    expect(made.status).toBe(200);
    world.fly.faults.add({
      ...{ kind: 'answer', action: 'machine.destroy', app: closed!, times: 5 },
      ...{ status: 422, error: 'not now' },
    });
    const { cells } = await world.controller([kept!], { env: OFTEN });
    await world.until(() => world.fly.faults.pending().length === 0);
    expect(cells.apps).toContain(closed);
    await world.until(() => !cells.apps.includes(closed!));
    expect(await world.live(closed!)).toEqual([]);
  });

  it('and was deleted with all that was in it: its sessions fail as with any lost machine, and open elsewhere', async () => {
    const [kept, deleted] = await apps(2);
    const before = await world.controller([kept!, deleted!]);
    await open(before, 'del-1');
    await open(before, 'del-2');
    await world.close(before);
    await world.deleteApp(deleted!);

    const after = await world.controller([kept!], { env: OFTEN });
    await world.until(async () => (await world.store.getSession('del-2')).status === 'failed');
    expect(await world.store.getSession('del-2')).toMatchObject({ error: { code: 'machine_lost' } });
    await world.until(() => !after.cells.apps.includes(deleted!));
    await after.lifecycle.startSandbox('del-2');
    expect(await names(kept!)).toEqual(['s-del-1-1', 's-del-2-2']);
  });

  it('a cell that is named still and not found says nothing about its sandboxes', async () => {
    const [kept, deleted] = await apps(2);
    const controller = await world.controller([kept!, deleted!], { env: OFTEN });
    await open(controller, 'not-1');
    await open(controller, 'not-2');
    await world.deleteApp(deleted!);
    await world.until(() => !controller.cells.answers(deleted!));
    await world.until(() => controller.hub.get('s-not-2-1') === undefined);
    expect(await world.store.getSession('not-2')).toMatchObject({ status: 'ready' });
  });

  it('is another stack’s where that has named it first: nothing starts, and nothing is touched', async () => {
    const [mine, theirs] = await apps(2);
    await world.controller(theirs!);
    await world.until(async () => (await world.cells(theirs!)).length === 1);
    const controller = await world.controller([mine!, theirs!], { env: OFTEN });
    await expect(open(controller, 'taken')).rejects.toMatchObject({ code: 'cell_taken' });
    expect(await world.store.findSession('taken')).toBeNull();
  });
});

describe('a controller that dies at any request of a start leaves one sandbox at most, in one cell', () => {
  it.each(['before', 'after'] as const)(
    '%s it',
    async (when) => {
      let finished = false;
      for (let first = 1; !finished; first += 6) {
        const points = Array.from({ length: 6 }, (_, n) => ({ at: first + n, when }));
        const died = await Promise.all(
          points.map(async (point) => {
            const cells = await apps(2);
            const id = `die-${point.at}-${when}`;
            const proxy = new CrashProxy();
            const doomed = await world.controller(cells, {
              env: {
                FLY_FLAPS_BASE_URL: await proxy.to(world.fly.url),
                SUPABASE_URL: await proxy.to(world.supabase.url),
                MOBVIBE_JOB_POLL_MS: '60000',
              },
            });
            proxy.arm(point);
            await Promise.race([open(doomed, id).catch(() => proxy.crashed), proxy.crashed]);
            await world.close(doomed);
            await proxy.close();

            // The next one is not told of the cell that the sandbox may be in.
            const [last] = await world.sandboxes(id);
            const named = last === undefined ? cells : cells.filter((app) => app !== last.app);
            const next = await world.controller(named, { env: OFTEN, stack: cells[0]! });
            await open(next, id);
            const living = (await Promise.all(cells.map((app) => world.live(app)))).flat();
            expect(
              living.map(({ name }) => name),
              proxy.diedAt,
            ).toEqual([`s-${id}-1`]);
            expect(await next.manager.destroySandbox(id), proxy.diedAt).toMatchObject({ status: 'stopped' });
            for (const app of cells) expect(await world.live(app), proxy.diedAt).toEqual([]);
            return proxy.diedAt;
          }),
        );
        finished = died.includes(undefined);
        await world.closeAll();
      }
    },
    120_000,
  );
});

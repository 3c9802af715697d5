import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createFlyClient, type FlyClient } from '../../fly/index.ts';
import { missing, startWorld, type World } from './engine.ts';

const reason = missing('command');
const MINUTES = 60_000;
/** One for each level of the graph, and some. */
const MOST_UPS = 20;

describe.skipIf(reason !== undefined)(`pulumi${reason === undefined ? '' : `: ${reason}`}`, () => {
  let world: World;
  let fly: FlyClient;
  beforeAll(async () => {
    world = await startWorld();
    fly = createFlyClient({ token: world.token, baseUrl: world.fly.url });
  }, MINUTES);
  afterAll(async () => {
    fly?.close();
    await world?.close();
  });

  test.each([
    ['is refused once', 'refused', 422],
    ['is done once and its answer is lost', 'lost', 'lost'],
  ] as const)(
    'every write that %s: up again, until all is there; nothing is doubled, and the same for destroy',
    async (_, name, how) => {
      const stack = await world.stack(name);
      const until = async (run: () => Promise<{ code: number; output: string }>) => {
        for (let ups = 1; ; ups++) {
          const { code, output } = await run();
          if (code === 0) return ups;
          expect(ups, output).toBeLessThan(MOST_UPS);
        }
      };
      const up = world.recorder.failEachOnce(how);
      await until(() => stack.up());
      up.end();
      const kinds = [...up.failed].map((line) => line.replace(/^(\w+) .*?([^/]+)$/, '$1 $2'));
      expect(new Set(kinds)).toEqual(
        new Set([
          ...['POST apps', 'POST network_policies', 'POST deploy_token', 'POST secrets'],
          ...['POST ip_assignments', 'POST machines'],
        ]),
      );
      const apps = [`mobvibe-${name}-cell-1`, `mobvibe-${name}-ctl`, `mobvibe-${name}-egress`];
      expect((await fly.listApps('personal')).map((app) => app.name).sort()).toEqual(apps);
      const counts = async (app: string) => ({
        machines: (await fly.listMachines(app)).length,
        addresses: (await fly.listIps(app)).length,
        policies: (await fly.listNetworkPolicies(app)).length,
      });
      expect(await Promise.all(apps.map(counts))).toEqual([
        { machines: 0, addresses: 0, policies: 1 },
        { machines: 1, addresses: 3, policies: 0 },
        { machines: 1, addresses: 1, policies: 0 },
      ]);
      const again = await stack.up('--expect-no-changes');
      expect(again.code, again.output).toBe(0);

      const down = world.recorder.failEachOnce(how);
      await until(() => stack.run('destroy', '--yes', '--skip-preview'));
      down.end();
      expect([...down.failed].some((line) => line.startsWith('DELETE /v1/apps/'))).toBe(true);
      expect(await fly.listApps('personal')).toEqual([]);
    },
    8 * MINUTES,
  );
});

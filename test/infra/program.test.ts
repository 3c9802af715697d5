import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import * as pulumi from '@pulumi/pulumi';
import { describe, expect, test, vi } from 'vitest';
import { readStackConfig } from '../../infra/config.ts';

interface Made {
  type: string;
  name: string;
  inputs: Record<string, unknown>;
}

const digest = (letter: string) => `registry.fly.io/x@sha256:${letter.repeat(64)}`;

const SETTINGS = {
  flyOrg: 'acme',
  supabaseUrl: 'https://abc.supabase.co',
  supabaseServiceRoleKey: 'service-role',
  supabaseDbUrl: 'postgresql://postgres:pass@db.abc.supabase.co:5432/postgres',
  sandboxImageRef: digest('a'),
  controllerImageRef: digest('b'),
};

function program(given: Record<string, string> = SETTINGS): Made[] {
  const settings = Object.entries(given).map(([key, value]) => [`mobvibe:${key}`, value]);
  const { stdout, stderr, status } = spawnSync(process.execPath, ['test/infra/print-graph.ts'], {
    encoding: 'utf8',
    env: { ...process.env, SETTINGS: JSON.stringify(Object.fromEntries(settings)) },
    timeout: 60_000,
  });
  if (status !== 0) throw new Error(stderr);
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Made);
}

const made = program();
const of = (type: string) => made.filter((one) => one.type === type);
const one = (name: string) => made.find((resource) => resource.name === name)!.inputs;

describe('what a stack is made of', () => {
  test('no two resources share type and name', () => {
    const keys = made.map(({ type, name }) => `${type} ${name}`);
    expect(keys.length).toBeGreaterThan(20);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test('every app carries the stack in its name', () => {
    expect(of('fly:App').map(({ inputs }) => inputs.name)).toEqual(
      expect.arrayContaining(['mobvibe-prod-cell-1', 'mobvibe-prod-ctl', 'mobvibe-prod-egress']),
    );
  });

  test('a cell is on a network of its own, has no public address, and its ways out are few', () => {
    expect(one('cell-1')).toMatchObject({ network: 'mobvibe-prod-cell-1', org: 'acme' });
    expect(of('fly:IpAddress').filter(({ inputs }) => inputs.app === 'mobvibe-prod-cell-1')).toEqual([]);
    const rules = one('cell-1-policy').rules as { direction: string; ports: { port: number }[] }[];
    const ports = (direction: string) =>
      rules
        .filter((rule) => rule.direction === direction)
        .flatMap((rule) => rule.ports.map(({ port }) => port));
    expect(ports('ingress')).toEqual([9]);
    expect(ports('egress').sort()).toEqual([3128, 53, 53, 8081]);
  });

  test('only the controller has public addresses; what agents call is Flycast on the cells’ networks', () => {
    const addresses = of('fly:IpAddress').map(({ inputs: { app, type, network } }) => [app, type, network]);
    expect(addresses).toHaveLength(4);
    expect(addresses).toEqual(
      expect.arrayContaining([
        ['mobvibe-prod-ctl', 'shared_v4', undefined],
        ['mobvibe-prod-ctl', 'v6', undefined],
        ['mobvibe-prod-ctl', 'private_v6', 'mobvibe-prod-cell-1'],
        ['mobvibe-prod-egress', 'private_v6', 'mobvibe-prod-cell-1'],
      ]),
    );
  });

  test('machines run images by digest', () => {
    const images = of('fly:Machine').map(({ inputs }) => (inputs.config as { image: string }).image);
    expect(images).toEqual([digest('b'), digest('b')]);
    expect(one('controller-1').config).toMatchObject({ env: { MOBVIBE_SANDBOX_IMAGE: digest('a') } });
  });

  test('the controller gets the token of the cells, never the organisation’s, and secrets stay wrapped', () => {
    const values = { FLY_API_TOKEN: 'FlyV1 token-of-cell-1-token', MOBVIBE_AGENT_SECRET: 'random' };
    expect(one('controller-secrets').values).toBe(
      `[secret ${JSON.stringify({ ...values, SUPABASE_SERVICE_ROLE_KEY: 'service-role' })}]`,
    );
    const machines = JSON.stringify(of('fly:Machine'));
    for (const secret of ['service-role', 'token-of', 'random']) expect(machines).not.toContain(secret);
    // A secret among the variables makes a secret of them all.
    expect(one('database-migrate').environment).toMatch(/^\[secret .*SUPABASE_DB_URL/);
    expect(one('smoke').environment).toMatch(/^\[secret .*MOBVIBE_API_KEY/);
  });

  test('the egress proxy knows the storage alone', () => {
    expect(one('egress-1').config).toMatchObject({ env: { MOBVIBE_EGRESS_ALLOW: 'abc.supabase.co:443' } });
  });

  test('a destroy saves what is open first: the drain knows the API, and runs only when it is deleted', () => {
    const { environment, ...rest } = one('controller-drain');
    expect(environment).toMatch(/^\[secret .*"MOBVIBE_URL":"https:\/\/mobvibe-prod-ctl.fly.dev"/);
    expect(environment).toContain('"MOBVIBE_API_KEY":"mvk_key"');
    expect(environment).not.toContain('MOBVIBE_DISCARD_UNSAVED');
    // Neither an up nor a machine that is replaced makes it run: it has no other command and no trigger.
    expect(rest).toEqual({
      delete: 'node actions/drain.ts',
      addPreviousOutputInEnv: false,
      logging: 'stderr',
    });
    const discarding = program({ ...SETTINGS, discardUnsaved: 'true' });
    const drain = discarding.find(({ name }) => name === 'controller-drain')!.inputs;
    expect(drain.environment).toContain('"MOBVIBE_DISCARD_UNSAVED":"true"');
  });

  test('a command line holds neither a secret nor a path of this computer', () => {
    const commands = of('command:local:Command').map(({ inputs }) => [
      inputs.create,
      inputs.update,
      inputs.delete,
    ]);
    expect(commands.flat().filter(Boolean).sort()).toEqual([
      'node actions/drain.ts',
      'node actions/migrate.ts',
      'node actions/migrate.ts',
      'node actions/reap.ts',
      'node actions/smoke.ts',
      'node actions/smoke.ts',
    ]);
  });
});

describe('images that are built', () => {
  const { sandboxImageRef, controllerImageRef, ...built } = SETTINGS;

  test('belong to an app, and a machine that never runs keeps the sandbox’s', () => {
    const made = program(built);
    const one = (name: string, type = '') =>
      made.find((resource) => resource.name === name && resource.type.startsWith(type))?.inputs;
    expect(one('images', 'fly:App')).toMatchObject({ name: 'mobvibe-prod-img', org: 'acme' });
    expect(one('images-sandbox')).toMatchObject({ imageName: 'registry.fly.io/mobvibe-prod-img:sandbox' });
    expect(one('images-keeper')).toMatchObject({
      ...{ app: 'mobvibe-prod-img', name: 'keeper', region: 'sjc', launch: false },
      config: {
        image: 'registry.fly.io/mobvibe-prod-img@sha256:of-images-sandbox',
        restart: { policy: 'no' },
        metadata: { 'mobvibe-stack': 'prod', 'mobvibe-role': 'keeper' },
      },
    });
    expect(one('images-keeper')?.config).not.toHaveProperty('services');
  });

  test('an image that is given is kept by whoever made it', () => {
    const made = program({ ...built, sandboxImageRef });
    expect(made.map(({ name }) => name)).toEqual(expect.arrayContaining(['images', 'images-controller']));
    expect(made.map(({ name }) => name)).not.toContain('images-keeper');
  });
});

test('several cells: each on a network of its own with a way to controller and proxy; a closed one is kept, but named no more', () => {
  const several = program({ ...SETTINGS, cells: '3', closedCells: '1' });
  const inputs = (name: string) => several.find((resource) => resource.name === name)!.inputs;
  const cells = [1, 2, 3].map((n) => `mobvibe-prod-cell-${n}`);
  for (const [n, cell] of cells.entries()) {
    expect(inputs(`cell-${n + 1}`)).toMatchObject({ name: cell, network: cell });
    expect(inputs(`cell-${n + 1}-policy`)).toMatchObject({ app: cell });
    for (const to of ['controller', 'egress']) {
      expect(inputs(`${to}-flycast-${n + 1}`)).toMatchObject({ type: 'private_v6', network: cell });
    }
  }
  expect(inputs('controller-1').config).toMatchObject({
    env: {
      MOBVIBE_CELL_APPS: 'mobvibe-prod-cell-1,mobvibe-prod-cell-2',
      MOBVIBE_AGENT_DIAL_URL: 'ws://mobvibe-prod-ctl.flycast:8081/v1/agent',
    },
  });
  const tokens = [1, 2, 3].map((n) => `token-of-cell-${n}-token`).join(',');
  expect(inputs('controller-secrets').values).toContain(`FlyV1 ${tokens}`);
});

test('a token of the cells that was made by hand is used, and none is made', () => {
  const made = program({ ...SETTINGS, cellToken: 'FlyV1 by-hand' });
  expect(made.filter(({ type }) => type === 'fly:DeployToken')).toEqual([]);
  expect(made.find(({ name }) => name === 'controller-secrets')!.inputs.values).toMatch(
    /^\[secret .*"FLY_API_TOKEN":"FlyV1 by-hand"/,
  );
});

test('several controllers: machines one after the other, each of which the others reach by its own address', () => {
  const several = program({ ...SETTINGS, cells: '2', controllerMachines: '2' });
  const machines = several.filter(
    ({ name }) => /^controller-\d+$/.test(name) && name !== 'controller-secrets',
  );
  expect(machines.map(({ name }) => name)).toEqual(['controller-1', 'controller-2']);
  const [first, second] = machines.map(({ inputs }) => inputs.config as { env: Record<string, string> });
  expect(second).toEqual(first);
  // An IPv4 address would not be reached on the private network; what the address is, Fly says in each machine.
  expect(first!.env.MOBVIBE_LISTEN_HOST).toBe('::');
  expect(first!.env).not.toHaveProperty('MOBVIBE_CONTROLLER_URL');
  expect((one('controller-1').config as { env: object }).env).toMatchObject({
    MOBVIBE_LISTEN_HOST: '0.0.0.0',
  });
});

describe('a mistake in the settings names its key', () => {
  test.each([
    ['flyOrg', undefined, 'mobvibe:flyOrg is not set'],
    ['flyOrg', 'My Org', 'mobvibe:flyOrg is "My Org"'],
    ['region', 'Amsterdam', 'mobvibe:region is "Amsterdam"'],
    ['supabaseUrl', 'abc.supabase.co', 'mobvibe:supabaseUrl is "abc.supabase.co"'],
    ['supabaseServiceRoleKey', undefined, 'mobvibe:supabaseServiceRoleKey is not set'],
    ['sandboxImageRef', 'registry.fly.io/x:latest', 'mobvibe:sandboxImageRef is "registry.fly.io/x:latest"'],
    ['sandboxMemoryMb', '1000', 'mobvibe:sandboxMemoryMb is "1000"'],
    ['cells', '11', 'mobvibe:cells is "11": a whole number from 1 to 10'],
    ['controllerMachines', '0', 'mobvibe:controllerMachines is "0": a whole number from 1 to 10'],
    ['closedCells', '1', 'mobvibe:closedCells is "1": a whole number from 0 to 0'],
    ['protect', 'yes', 'mobvibe:protect is "yes"'],
    ['discardUnsaved', 'yes', 'mobvibe:discardUnsaved is "yes"'],
    ['expiresAt', 'tomorrow', 'mobvibe:expiresAt is "tomorrow"'],
    ['sandboxTarget', 'android', 'mobvibe:sandboxTarget is "android"'],
  ])('%s: %s', (key, value, words) => {
    const settings = Object.entries({ ...SETTINGS, [key]: value }).filter(([, set]) => set !== undefined);
    pulumi.runtime.setAllConfig(Object.fromEntries(settings.map(([name, set]) => [`mobvibe:${name}`, set!])));
    expect(() => readStackConfig(new pulumi.Config('mobvibe'))).toThrow(words);
  });
});

test('docs/setup.md tells of every setting that is read, and of no other', () => {
  const settings = Object.entries({ ...SETTINGS, expiresAt: '2026-12-31T12:00:00Z' });
  pulumi.runtime.setAllConfig(Object.fromEntries(settings.map(([name, set]) => [`mobvibe:${name}`, set])));
  const config = new pulumi.Config('mobvibe');
  const reads = [vi.spyOn(config, 'get'), vi.spyOn(config, 'getSecret')];
  readStackConfig(config);
  const read = new Set(reads.flatMap((spy) => spy.mock.calls.map(([key]) => key)));
  const [, table = ''] =
    /### Settings\n([\s\S]*?)\n(?=#|$)/.exec(readFileSync('docs/setup.md', 'utf8')) ?? [];
  const told = [...table.matchAll(/^\| ([^|]+) \|/gm)].flatMap(([, keys]) =>
    [...keys!.matchAll(/`(\w+)`/g)].map(([, key]) => key),
  );
  expect(told.sort()).toEqual([...read].sort());
});

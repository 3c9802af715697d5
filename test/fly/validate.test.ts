import { describe, expect, it } from 'vitest';
import type { FlyClient, Guest, MachineConfig } from '../../fly/index.ts';
import { failureOf, scriptedServer, testClient } from './scripted-server.ts';

/** A value that the types would not let pass. */
const wrong = <T>(value: unknown): T => value as T;

const create = (fly: FlyClient, config: Partial<MachineConfig>, rest: object = {}) =>
  fly.createMachine('cell', { name: 's-1', config: { image: 'i', ...config }, ...rest });

const MISTAKES: [what: string, field: string, shown: string, call: (fly: FlyClient) => Promise<unknown>][] = [
  ['an app name with capitals', 'app', '"Cell"', (fly) => fly.getApp('Cell')],
  ['an app name of 63 characters', 'app', 'aaa', (fly) => fly.listMachines('a'.repeat(63))],
  ['an empty app name', 'app', '""', (fly) => fly.deleteApp('')],
  ['an app name that is a path', 'app', '"../x"', (fly) => fly.deleteApp('../x')],
  ['an id that is missing', 'machine', 'undefined', (fly) => fly.destroyMachine('cell', wrong(undefined))],
  ['an id that is a path', 'machine', '".."', (fly) => fly.destroyMachine('cell', '..')],
  ['an id with a slash', 'machine', '"a/b"', (fly) => fly.getMachine('cell', 'a/b')],
  ['an empty id', 'machine', '""', (fly) => fly.destroyMachine('cell', '')],
  ['a machine name', 'name', '"S_1"', (fly) => create(fly, {}, { name: 'S_1' })],
  ['no machine name', 'name', 'undefined', (fly) => create(fly, {}, { name: undefined })],
  ['a region', 'region', '"San José"', (fly) => create(fly, {}, { region: 'San José' })],
  ['no image', 'config.image', '""', (fly) => create(fly, { image: '' })],
  ['an unknown field', 'skipLaunch', 'skipLaunch', (fly) => create(fly, {}, { skipLaunch: true })],
  [
    'an unknown field of config',
    'config.autoDestroy',
    'autoDestroy',
    (fly) => create(fly, wrong({ autoDestroy: true })),
  ],
  [
    'an unknown field of a service',
    'config.services[0].auto_stop_machines',
    'auto_stop_machines',
    (fly) => create(fly, { services: [wrong({ auto_stop_machines: true })] }),
  ],
  ['a number in env', 'config.env.PORT', 'number', (fly) => create(fly, { env: { PORT: wrong(80) } })],
  ['null in metadata', 'config.metadata.a', 'object', (fly) => create(fly, { metadata: { a: wrong(null) } })],
  [
    'a restart policy',
    'config.restart.policy',
    '"never"',
    (fly) => create(fly, { restart: { policy: wrong('never') } }),
  ],
  ['a stop signal', 'signal', '"SIGSTOP"', (fly) => create(fly, { stop_config: { signal: 'SIGSTOP' } })],
  [
    'a stop time without a unit',
    'config.stop_config.timeout',
    '"10"',
    (fly) => create(fly, { stop_config: { timeout: '10' } }),
  ],
  [
    'a stop time above 300 s',
    'config.stop_config.timeout',
    '"5m1s"',
    (fly) => create(fly, { stop_config: { timeout: '5m1s' } }),
  ],
  [
    'a guest in an update',
    'config.guest.memory_mb',
    '100',
    (fly) => fly.updateMachine('cell', 'm', { config: { image: 'i', guest: { memory_mb: 100 } } }),
  ],
  ['a grace above 300 s', 'grace', '"301s"', (fly) => fly.stopMachine('cell', 'm', { grace: '301s' })],
  ['a signal', 'signal', '"TERM"', (fly) => fly.signalMachine('cell', 'm', 'TERM')],
  ['an empty command', 'command', '[]', (fly) => fly.exec('cell', 'm', { command: [] })],
  ['NUL in a command', 'command', '\\u0000', (fly) => fly.exec('cell', 'm', { command: ['a', '\0'] })],
  ['exec above 60 s', 'timeout', '61', (fly) => fly.exec('cell', 'm', { command: ['a'], timeout: 61 })],
  ['a limit of events', 'limit', '51', (fly) => fly.listEvents('cell', 'm', { limit: 51 })],
  ['an endless lease', 'ttlSeconds', '0', (fly) => fly.acquireLease('cell', 'm', { ttlSeconds: 0 })],
  ['a metadata key', 'key', '".."', (fly) => fly.deleteMetadata('cell', 'm', '..')],
  ['a token without an end', 'expiry', '""', (fly) => fly.createDeployToken('cell', '')],
  ['a secret name', 'name', '"A-B"', (fly) => fly.setSecrets('cell', { 'A-B': 'x' })],
  ['an address type', 'type', '"v5"', (fly) => fly.allocateIp('cell', { type: wrong('v5') })],
  [
    'a port',
    'rules[0].ports[0].port',
    '0',
    (fly) =>
      fly.putNetworkPolicy('cell', {
        name: 'p',
        selector: { all: true },
        rules: [{ action: 'allow', direction: 'egress', ports: [{ protocol: 'tcp', port: 0 }] }],
      }),
  ],
  [
    'a rule that denies',
    'rules[0].action',
    '"deny"',
    (fly) =>
      fly.putNetworkPolicy('cell', {
        name: 'p',
        selector: { all: true },
        rules: [{ action: wrong('deny'), direction: 'egress', ports: [] }],
      }),
  ],
];

describe('a mistake', () => {
  it.each(MISTAKES)('%s is named and not sent', async (_what, field, shown, call) => {
    const server = await scriptedServer(() => ({ json: {} }));
    const error = await failureOf(call(testClient(server.url)));
    expect(error).toMatchObject({ kind: 'mistake', field, status: undefined });
    expect(error.message).toContain(field);
    expect(error.message).toContain(shown);
    expect(server.seen).toEqual([]);
  });

  it('in env does not show the value', async () => {
    const server = await scriptedServer(() => ({ json: {} }));
    const error = await failureOf(create(testClient(server.url), { env: { KEY: wrong(['s3cret']) } }));
    expect(error.message).not.toContain('s3cret');
  });
});

describe('guest sizes', () => {
  const SIZES: [guest: Guest, fits: boolean][] = [
    [{}, true],
    [{ cpu_kind: 'shared', cpus: 1, memory_mb: 256 }, true],
    [{ cpu_kind: 'shared', cpus: 1, memory_mb: 2048 }, true],
    [{ memory_mb: 512 }, true],
    [{ cpu_kind: 'shared', cpus: 8, memory_mb: 16_384 }, true],
    [{ cpu_kind: 'performance', cpus: 1, memory_mb: 2048 }, true],
    [{ cpu_kind: 'performance', cpus: 16, memory_mb: 131_072 }, true],
    [{ cpu_kind: 'shared', cpus: 1, memory_mb: 2304 }, false],
    [{ cpu_kind: 'shared', cpus: 1, memory_mb: 0 }, false],
    [{ cpu_kind: 'shared', cpus: 1, memory_mb: 300 }, false],
    [{ cpu_kind: 'shared', cpus: 1, memory_mb: 256.5 }, false],
    [{ cpu_kind: 'shared', cpus: 3, memory_mb: 1024 }, false],
    [{ cpu_kind: 'shared', cpus: 16 }, false],
    [{ cpu_kind: 'performance', cpus: 0 }, false],
    [{ cpu_kind: 'performance', cpus: 17 }, false],
    [{ cpu_kind: 'performance', cpus: 2, memory_mb: 2048 }, false],
    [{ cpu_kind: 'performance', cpus: 1, memory_mb: 3072 }, false],
    [wrong({ cpu_kind: 'dedicated' }), false],
    [wrong({ memory: 512 }), false],
  ];

  it.each(SIZES)('%j: %s', async (guest, fits) => {
    const server = await scriptedServer(() => ({ json: { id: 'm', state: 'created', name: 's-1' } }));
    const made = create(testClient(server.url), { guest });
    if (fits) await expect(made).resolves.toMatchObject({ id: 'm' });
    else expect((await failureOf(made)).field).toMatch(/^config\.guest\./);
  });
});
